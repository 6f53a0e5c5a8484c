//! A user's URL, read once: what was checked is what is asked for.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;
use thiserror::Error;
use url::{Host, Url};

use super::address::{Class, Networks};

/// Bytes of a URL at most.
pub const LONGEST_URL: usize = 2048;

/// Names by which a cloud's machines find their metadata service.
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

/// Where `http` may lead, besides `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plain {
    /// Only into networks that are allowed by name: nobody else listens in there.
    WithinAllowed,
    /// To wherever `https` may lead.
    Anywhere,
}

/// Why a request may not be made. Its words bear nothing of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not one that can be read.
    #[error(
        "the URL is not like https://host[:port]/path, in printable characters without spaces or backslashes"
    )]
    NoUrl,
    /// Longer than [`LONGEST_URL`].
    #[error("the URL is longer than 2048 bytes")]
    TooLong,
    /// Another scheme.
    #[error("the URL must begin with https:// or http://")]
    Scheme,
    /// `http`, which is not allowed to there.
    #[error("the URL must be https://; http:// may only lead into networks that EGRESS_ALLOW lists")]
    Plain,
    /// A user or a password.
    #[error("the URL may not bear a user or a password")]
    Credentials,
    /// Port 0.
    #[error("the URL's port may not be 0")]
    Port,
    /// An address, or a name that leads to it.
    #[error("the URL leads to {0}, which is allowed only in networks that EGRESS_ALLOW lists")]
    Address(Class),
    /// A method that makes a tunnel or an echo.
    #[error("the method is not allowed")]
    Method,
}

/// A URL that may be asked, if its name leads to where it may.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) place: Place,
    /// Path and query.
    pub(super) path: Uri,
}

/// What connections are told apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) is_tls: bool,
    pub(super) host: Host<String>,
    pub(super) port: u16,
    pub(super) plain: Plain,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // a webhook's URL is a secret: who knows it may post
        f.write_str("Target(..)")
    }
}

impl Place {
    /// As it stands in the header `Host`: without the port of its scheme.
    pub(super) fn authority(&self) -> String {
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// The address, if it is one and no name.
    pub(super) fn literal(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ipv4(v4) => Some(v4.into()),
            Host::Ipv6(v6) => Some(v6.into()),
            Host::Domain(_) => None,
        }
    }

    /// Whether a connection may be made to this address of the host.
    pub(super) fn check(&self, address: IpAddr, allowed: &Networks) -> Result<(), Refusal> {
        allowed.check(address).map_err(Refusal::Address)?;
        let is_fine = self.is_tls || self.plain == Plain::Anywhere || allowed.contains(address);
        if is_fine { Ok(()) } else { Err(Refusal::Plain) }
    }
}

impl Target {
    /// Reads a URL as browsers do (WHATWG): `0x7f.1`, `２１３０７０６４３３` and `%31%32%37.1` are the address that they
    /// would connect to. What browsers forgive, such as line breaks in the middle or a missing slash, is refused.
    ///
    /// # Errors
    /// What is against it.
    pub(super) fn read(text: &str, plain: Plain, allowed: &Networks) -> Result<Self, Refusal> {
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
        let place = Place { is_tls, host, port, plain };
        match place.literal() {
            Some(address) => place.check(address, allowed)?,
            // a name is looked up when it is asked; but without any allowed network the answer is known
            None if !is_tls && plain == Plain::WithinAllowed && allowed.is_empty() => {
                return Err(Refusal::Plain);
            }
            None => {}
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = Uri::try_from(format!("{}{query}", url.path())).map_err(|_| Refusal::NoUrl)?;
        Ok(Self { place, path })
    }
}

/// An empty user is one: `https://@host` is how one URL is made to look like another.
fn has_at_sign(rest: &str) -> bool {
    let authority = rest.trim_start_matches('/').split(['/', '?', '#']).next();
    authority.is_some_and(|authority| authority.contains('@'))
}

/// The name without the dot at its end, which makes it no other.
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
    // always this host (RFC 6761, 6.3)
    let is_local = name == "localhost" || name.ends_with(".localhost");
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    if is_local && !loopback.iter().any(|address| allowed.contains(*address)) {
        return Err(Refusal::Address(Class::Loopback));
    }
    Ok(name.to_owned())
}
