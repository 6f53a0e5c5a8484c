//! A user's URL, parsed once: the request uses exactly the parts that were checked.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;
use thiserror::Error;
use url::{Host, Url};

use super::address::{Class, Networks};

/// The longest URL, in bytes.
pub const LONGEST_URL: usize = 2048;

/// Names that lead to the metadata service of a cloud.
const METADATA_NAMES: &[&str] = &[
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
    "metadata.platformequinix.com",
    "metadata.oraclecloud.com",
];

/// The networks in which `http` is allowed, besides `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlainHttp {
    /// Only the networks that the operator allows: clear text cannot be read by outsiders there.
    WithinAllowed,
    /// All networks in which `https` is allowed.
    Anywhere,
}

/// The reason why a request is not allowed. The text contains no part of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The URL cannot be parsed.
    #[error(
        "the URL must be https://host[:port]/path, in printable characters without spaces or backslashes"
    )]
    NoUrl,
    /// The URL is longer than [`LONGEST_URL`].
    #[error("the URL is longer than 2048 bytes")]
    TooLong,
    /// The URL has another scheme.
    #[error("the URL must begin with https:// or http://")]
    Scheme,
    /// The URL is `http` where only `https` is allowed.
    #[error("the URL must be https://; http:// is allowed only in networks that EGRESS_ALLOW lists")]
    PlainHttp,
    /// The URL contains a user or a password.
    #[error("the URL must not contain a user or a password")]
    Credentials,
    /// The port is 0.
    #[error("the URL's port must not be 0")]
    Port,
    /// The URL leads to a special address, directly or by name.
    #[error("the URL leads to {0}, which is allowed only in networks that EGRESS_ALLOW lists")]
    Address(Class),
    /// The method opens a tunnel or echoes the request.
    #[error("the method is not allowed")]
    Method,
}

/// A URL that is allowed, provided that its name resolves to an allowed address.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) place: Destination,
    /// Path and query.
    pub(super) path: Uri,
}

/// The destination of a connection, by which idle ones are reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) is_tls: bool,
    pub(super) host: Host<String>,
    pub(super) port: u16,
    pub(super) plain: PlainHttp,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // a webhook's URL is a secret: anyone who has it can post
        f.write_str("Target(..)")
    }
}

impl Destination {
    /// Returns the value of the `Host` header, without the default port of the scheme.
    pub(super) fn authority(&self) -> String {
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// The host if it is an address and not a name.
    pub(super) fn literal(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ipv4(v4) => Some(v4.into()),
            Host::Ipv6(v6) => Some(v6.into()),
            Host::Domain(_) => None,
        }
    }

    /// Checks whether a connection may be opened to this address of the host.
    pub(super) fn check(&self, address: IpAddr, allowed: &Networks) -> Result<(), Refusal> {
        allowed.check(address).map_err(Refusal::Address)?;
        let is_fine = self.is_tls || self.plain == PlainHttp::Anywhere || allowed.contains(address);
        if is_fine { Ok(()) } else { Err(Refusal::PlainHttp) }
    }
}

impl Target {
    /// Parses a URL as browsers do (WHATWG): `0x7f.1`, `２１３０７０６４３３` and `%31%32%37.1` become the address that a browser
    /// would connect to. Mistakes that browsers tolerate, such as line breaks within the URL or a missing slash, are
    /// refused.
    ///
    /// # Errors
    /// The reason for refusing the URL.
    pub(super) fn read(text: &str, plain: PlainHttp, allowed: &Networks) -> Result<Self, Refusal> {
        if text.len() > LONGEST_URL {
            return Err(Refusal::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(Refusal::NoUrl);
        }
        let (scheme, rest) = text.split_once(':').ok_or(Refusal::NoUrl)?;
        let is_tls = scheme.eq_ignore_ascii_case("https");
        if !is_tls && !scheme.eq_ignore_ascii_case("http") {
            return Err(Refusal::Scheme);
        }
        if !rest.starts_with("//") || rest.starts_with("///") {
            return Err(Refusal::NoUrl);
        }
        let url = Url::parse(text).map_err(|_| Refusal::NoUrl)?;
        if !url.username().is_empty() || url.password().is_some() || has_at_sign(rest) {
            return Err(Refusal::Credentials);
        }
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(Refusal::Port)?;
        let host = match url.host().ok_or(Refusal::NoUrl)? {
            Host::Domain(name) => Host::Domain(checked_name(name, allowed)?),
            literal => literal.to_owned(),
        };
        let place = Destination { is_tls, host, port, plain };
        match place.literal() {
            Some(address) => place.check(address, allowed)?,
            // names are resolved at request time, but without any allowed network the outcome is known
            None if !is_tls && plain == PlainHttp::WithinAllowed && allowed.is_empty() => {
                return Err(Refusal::PlainHttp);
            }
            None => {}
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = Uri::try_from(format!("{}{query}", url.path())).map_err(|_| Refusal::NoUrl)?;
        Ok(Self { place, path })
    }
}

/// Returns true if the URL has a user, even an empty one: `https://@host` serves to disguise one URL as another.
fn has_at_sign(rest: &str) -> bool {
    let authority = rest.trim_start_matches('/').split(['/', '?', '#']).next();
    authority.is_some_and(|authority| authority.contains('@'))
}

/// Checks the name, and removes a final dot, which does not change its meaning.
fn checked_name(name: &str, allowed: &Networks) -> Result<String, Refusal> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty()
        || name.len() > 253
        || name.split('.').any(|label| label.is_empty() || label.len() > 63)
    {
        return Err(Refusal::NoUrl);
    }
    if METADATA_NAMES.contains(&name) {
        return Err(Refusal::Address(Class::Metadata));
    }
    // `localhost` is always this host (RFC 6761, 6.3)
    let is_local = name == "localhost" || name.ends_with(".localhost");
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    if is_local && !loopback.iter().any(|address| allowed.contains(*address)) {
        return Err(Refusal::Address(Class::Loopback));
    }
    Ok(name.to_owned())
}
