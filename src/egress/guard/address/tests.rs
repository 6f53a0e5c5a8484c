use proptest::prelude::*;

use super::*;

fn class(address: &str) -> Option<Class> {
    class_of(address.parse().unwrap())
}

#[test]
fn what_is_special_is_known_to_its_edges() {
    for (address, expected) in [
        ("0.0.0.0", Class::Unspecified),
        ("0.255.255.255", Class::Unspecified),
        ("10.0.0.0", Class::Private),
        ("10.255.255.255", Class::Private),
        ("100.64.0.0", Class::CarrierNat),
        ("100.127.255.255", Class::CarrierNat),
        ("100.100.100.200", Class::Metadata),
        ("127.0.0.1", Class::Loopback),
        ("127.255.255.255", Class::Loopback),
        ("168.63.129.16", Class::Metadata),
        ("169.254.0.0", Class::LinkLocal),
        ("169.254.169.254", Class::Metadata),
        ("169.254.170.2", Class::Metadata),
        ("169.254.255.255", Class::LinkLocal),
        ("172.16.0.0", Class::Private),
        ("172.31.255.255", Class::Private),
        ("192.0.0.255", Class::Protocol),
        ("192.0.0.192", Class::Metadata),
        ("192.0.2.1", Class::Documentation),
        ("192.88.99.1", Class::Protocol),
        ("192.168.255.255", Class::Private),
        ("198.18.0.0", Class::Benchmarking),
        ("198.19.255.255", Class::Benchmarking),
        ("198.51.100.7", Class::Documentation),
        ("203.0.113.7", Class::Documentation),
        ("224.0.0.1", Class::Multicast),
        ("239.255.255.255", Class::Multicast),
        ("240.0.0.1", Class::Reserved),
        ("255.255.255.254", Class::Reserved),
        ("255.255.255.255", Class::Broadcast),
        ("::", Class::Unspecified),
        ("::1", Class::Loopback),
        ("::2", Class::Embedding),
        ("::8.8.8.8", Class::Embedding),
        ("::ffff:8.8.8.8", Class::Embedding),
        ("::ffff:0:8.8.8.8", Class::Embedding),
        ("64:ff9b::8.8.8.8", Class::Embedding),
        ("64:ff9b:1:ffff::1", Class::Embedding),
        ("100::1", Class::Reserved),
        ("1fff::1", Class::Reserved),
        ("2001::1", Class::Embedding),
        ("2001:1::1", Class::Protocol),
        ("2001:2::1", Class::Benchmarking),
        ("2001:1ff::1", Class::Protocol),
        ("2001:db8::1", Class::Documentation),
        ("2002:7f00:1::", Class::Embedding),
        ("2a00:1450::5efe:8.8.8.8", Class::Embedding),
        ("2a00:1450::200:5efe:8.8.8.8", Class::Embedding),
        ("3fff:fff::1", Class::Documentation),
        ("4000::1", Class::Reserved),
        ("5f00::1", Class::Reserved),
        ("fc00::1", Class::Private),
        ("fd00:ec2::254", Class::Metadata),
        ("fd20:ce::254", Class::Metadata),
        ("fdff:ffff::1", Class::Private),
        ("fe80::1", Class::LinkLocal),
        ("febf::1", Class::LinkLocal),
        ("fec0::1", Class::SiteLocal),
        ("feff::1", Class::SiteLocal),
        ("ff02::1", Class::Multicast),
    ] {
        assert_eq!(class(address), Some(expected), "{address}");
    }
    for address in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2003::1",
        "2606:4700::1111",
        "3ffe::1",
    ] {
        assert_eq!(class(address), None, "{address}");
    }
}

#[test]
fn an_allowed_network_opens_what_it_says_and_no_more() {
    let networks: Networks = "127.0.0.0/8, ::1 ,10.1.0.0/16,64:ff9b::/96".parse().unwrap();
    let check = |address: &str| networks.check(address.parse().unwrap());
    for fine in ["127.0.0.1", "::1", "10.1.2.3", "1.1.1.1", "64:ff9b::8.8.8.8", "64:ff9b::10.1.2.3"] {
        assert_eq!(check(fine), Ok(()), "{fine}");
    }
    for wrong in ["10.2.0.1", "::", "::ffff:127.0.0.1", "64:ff9b::10.2.0.1", "64:ff9b::169.254.169.254"] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
    let all: Networks = "0.0.0.0/0,::/0".parse().unwrap();
    assert_eq!(all.check("192.168.0.1".parse().unwrap()), Ok(()));
    assert_eq!(all.check("169.254.169.254".parse().unwrap()), Err(Class::Metadata));
    assert_eq!(all.check("::ffff:192.168.0.1".parse().unwrap()), Err(Class::Embedding));
    let one: Networks = "169.254.169.254".parse().unwrap();
    assert_eq!(one.check("169.254.169.254".parse().unwrap()), Ok(()), "named by itself");
}

#[test]
fn a_list_that_is_no_list_of_networks_is_refused_by_name() {
    assert_eq!("".parse(), Ok(Networks::default()));
    for wrong in ["localhost", "10.1.0.0/8", "10.0.0.0/33", "10.0.0.0/8;127.0.0.1", "::/129"] {
        assert!(wrong.parse::<Networks>().unwrap_err().contains("is neither a network"), "{wrong}");
    }
}

proptest! {
    #[test]
    fn whatever_the_standard_library_calls_special_is_refused(bits: u32) {
        let address = Ipv4Addr::from_bits(bits);
        let is_special = address.is_private() || address.is_loopback() || address.is_link_local()
            || address.is_multicast() || address.is_broadcast() || address.is_unspecified()
            || address.is_documentation();
        prop_assert!(!is_special || class_of(address.into()).is_some());
    }

    #[test]
    fn no_way_of_writing_ipv4_within_ipv6_is_public(bits: u32, other: u32) {
        let (high, low) = ((bits >> 16) as u16, bits as u16);
        let (a, b) = ((other >> 16) as u16, other as u16);
        for address in [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, a, b, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, a, b, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, a, b, 0, 0, !high, !low),
            Ipv6Addr::new(0x2a00, a, b, 0, 0, 0x5efe, high, low),
        ] {
            prop_assert!(class_of(address.into()).is_some(), "{}", address);
        }
    }
}
