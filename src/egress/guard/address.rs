//! The addresses that a user's URL may lead to: public ones, and the networks that the operator allows.
//!
//! The special ranges are those of IANA's registries (IPv4 and IPv6 Special-Purpose Address Registry, RFC 6890). Of
//! IPv6, everything but 2000::/3, the only part allocated for global unicast, is refused from the start.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The reason why a user's URL may not lead to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// This host, or no host.
    Unspecified,
    /// This host.
    Loopback,
    /// An address of a private network (RFC 1918), or a unique-local one (RFC 4193).
    Private,
    /// A link-local address (RFC 3927, RFC 4291).
    LinkLocal,
    /// A metadata service of a cloud, from which a machine gets its secrets.
    Metadata,
    /// An address behind a carrier's NAT (RFC 6598).
    CarrierNat,
    /// A group of hosts.
    Multicast,
    /// All hosts.
    Broadcast,
    /// Benchmarking (RFC 2544, RFC 5180).
    Benchmarking,
    /// Examples in documentation.
    Documentation,
    /// IETF protocols (RFC 6890), including former anycast services.
    Protocol,
    /// Not allocated.
    Reserved,
    /// Site-local, a deprecated range (RFC 3879).
    SiteLocal,
    /// An IPv6 address that contains an IPv4 address: mapped, compatible, translated, NAT64, 6to4, Teredo or ISATAP.
    Embedding,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::Private => "an address of a private network",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::CarrierNat => "an address behind a carrier's NAT",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Benchmarking => "an address for benchmarks",
            Self::Documentation => "an address for documentation",
            Self::Protocol => "an address for IETF protocols",
            Self::Reserved => "a reserved address",
            Self::SiteLocal => "a site-local address",
            Self::Embedding => "an IPv6 address that embeds an IPv4 address",
        })
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, e: u16, f: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, 0, 0), length)
}

/// Special ranges; the first match decides.
const SPECIAL_V4: &[(Ipv4Net, Class)] = &[
    (v4(0, 0, 0, 0, 8), Class::Unspecified),
    (v4(10, 0, 0, 0, 8), Class::Private),
    (v4(100, 64, 0, 0, 10), Class::CarrierNat),
    (v4(127, 0, 0, 0, 8), Class::Loopback),
    (v4(169, 254, 0, 0, 16), Class::LinkLocal),
    (v4(172, 16, 0, 0, 12), Class::Private),
    (v4(192, 0, 0, 0, 24), Class::Protocol),
    (v4(192, 0, 2, 0, 24), Class::Documentation),
    // AS112, AMT and the 6to4 relays: anycast to the nearest server
    (v4(192, 31, 196, 0, 24), Class::Protocol),
    (v4(192, 52, 193, 0, 24), Class::Protocol),
    (v4(192, 88, 99, 0, 24), Class::Protocol),
    (v4(192, 168, 0, 0, 16), Class::Private),
    (v4(192, 175, 48, 0, 24), Class::Protocol),
    (v4(198, 18, 0, 0, 15), Class::Benchmarking),
    (v4(198, 51, 100, 0, 24), Class::Documentation),
    (v4(203, 0, 113, 0, 24), Class::Documentation),
    (v4(224, 0, 0, 0, 4), Class::Multicast),
    (v4(255, 255, 255, 255, 32), Class::Broadcast),
    (v4(240, 0, 0, 0, 4), Class::Reserved),
];

/// The metadata services of most clouds, Alibaba, Oracle, Tencent and Azure (a public address).
const METADATA_V4: &[Ipv4Addr] = &[
    Ipv4Addr::new(169, 254, 169, 254),
    // of containers on Amazon ECS and EKS
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(169, 254, 0, 23),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// The metadata services of Amazon (machines and containers) and Google.
const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0023),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
];

const SPECIAL_V6: &[(Ipv6Net, Class)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), Class::Unspecified),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), Class::Loopback),
    // compatible, mapped and translated
    (v6(0, 0, 0, 0, 0, 0, 96), Class::Embedding),
    (v6(0, 0, 0, 0, 0, 0xffff, 96), Class::Embedding),
    (v6(0, 0, 0, 0, 0xffff, 0, 96), Class::Embedding),
    // NAT64 (RFC 6052, RFC 8215), Teredo and 6to4
    (NAT64, Class::Embedding),
    (v6(0x64, 0xff9b, 1, 0, 0, 0, 48), Class::Embedding),
    (v6(0x2001, 0, 0, 0, 0, 0, 32), Class::Embedding),
    (v6(0x2002, 0, 0, 0, 0, 0, 16), Class::Embedding),
    (v6(0x2001, 2, 0, 0, 0, 0, 48), Class::Benchmarking),
    (v6(0x2001, 0, 0, 0, 0, 0, 23), Class::Protocol),
    (v6(0x2001, 0xdb8, 0, 0, 0, 0, 32), Class::Documentation),
    (v6(0x3fff, 0, 0, 0, 0, 0, 20), Class::Documentation),
    // AS112
    (v6(0x2620, 0x4f, 0x8000, 0, 0, 0, 48), Class::Protocol),
    (v6(0xfc00, 0, 0, 0, 0, 0, 7), Class::Private),
    (v6(0xfe80, 0, 0, 0, 0, 0, 10), Class::LinkLocal),
    (v6(0xfec0, 0, 0, 0, 0, 0, 10), Class::SiteLocal),
    (v6(0xff00, 0, 0, 0, 0, 0, 8), Class::Multicast),
];

const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 0, 0, 0, 96);
const GLOBAL_UNICAST_V6: Ipv6Net = v6(0x2000, 0, 0, 0, 0, 0, 3);

/// Returns the class of a special address; `None` for a public one.
pub fn class_of(address: IpAddr) -> Option<Class> {
    match address {
        IpAddr::V4(v4) if METADATA_V4.contains(&v4) => Some(Class::Metadata),
        IpAddr::V4(v4) => SPECIAL_V4.iter().find(|(net, _)| net.contains(&v4)).map(|(_, class)| *class),
        IpAddr::V6(v6) if METADATA_V6.contains(&v6) => Some(Class::Metadata),
        IpAddr::V6(v6) => {
            let special = SPECIAL_V6.iter().find(|(net, _)| net.contains(&v6)).map(|(_, class)| *class);
            special
                .or_else(|| is_isatap(v6).then_some(Class::Embedding))
                .or_else(|| (!GLOBAL_UNICAST_V6.contains(&v6)).then_some(Class::Reserved))
        }
    }
}

/// Returns true if the last four bytes are an IPv4 address, under any prefix (RFC 5214, 6.1).
fn is_isatap(address: Ipv6Addr) -> bool {
    let [_, _, _, _, flags, mark, _, _] = address.segments();
    mark == 0x5efe && flags & !0x0300 == 0
}

/// Networks that the operator allows although they are not public: `EGRESS_ALLOW`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Returns true if no network is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if one of the networks contains this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }

    fn names_exactly(&self, address: IpAddr) -> bool {
        self.0.contains(&IpNet::from(address))
    }

    /// Checks whether a user's URL may lead to the address. A metadata service, and an address that embeds another one,
    /// must be allowed individually: `0.0.0.0/0` does not cover them. The target of a NAT64 address (64:ff9b::/96) must
    /// be allowed as well.
    ///
    /// # Errors
    /// The class of a refused address.
    pub fn check(&self, address: IpAddr) -> Result<(), Class> {
        let Some(class) = class_of(address) else { return Ok(()) };
        let is_allowed = match (class, address) {
            (Class::Embedding, IpAddr::V6(v6)) if NAT64.contains(&v6) => {
                let [.., a, b, c, d] = v6.octets();
                self.contains(address) && self.check(Ipv4Addr::new(a, b, c, d).into()).is_ok()
            }
            (Class::Metadata | Class::Embedding, _) => self.names_exactly(address),
            _ => self.contains(address),
        };
        if is_allowed { Ok(()) } else { Err(class) }
    }
}

impl FromStr for Networks {
    type Err = String;

    /// Parses networks and addresses, separated by commas: `127.0.0.0/8, 10.1.0.0/16, ::1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let networks = text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(|one| {
            let net = one.parse::<IpNet>().ok().or_else(|| one.parse::<IpAddr>().ok().map(IpNet::from));
            // bits after the prefix often mean a mistake in the prefix
            net.filter(|net| net.trunc() == *net).ok_or_else(|| {
                format!("{one:?} is neither a network like 10.1.0.0/16, with zeros after the prefix, nor an address")
            })
        });
        networks.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests;
