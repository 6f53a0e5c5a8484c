//! How mail is sent, and the address that says by which servers.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::{Host, Url};

use crate::error::{Error, Result};

/// What says which servers there are.
const URL_FIELD: &str = "email.smtp_url (SMTP_URL)";
const DEFAULT_WEIGHT: u32 = 1;
/// Of a weight, and of connections.
const LARGEST: u32 = 1000;
/// Mails over one connection; servers that count close theirs after some hundreds at the earliest.
const DEFAULT_MAILS_PER_CONNECTION: u32 = 100;

/// How a connection is kept from being read on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// It begins in clear and must change to TLS by STARTTLS before anything is sent (RFC 3207).
    Required,
    /// TLS from its first byte (RFC 8314).
    Implicit,
    /// In clear.
    None,
}

impl Tls {
    fn port(self) -> u16 {
        match self {
            Self::Required => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

impl std::str::FromStr for Tls {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "required" => Ok(Self::Required),
            "implicit" => Ok(Self::Implicit),
            "none" => Ok(Self::None),
            _ => Err("must be required, implicit or none"),
        }
    }
}

/// Who the service is to a mail server (RFC 4954).
#[derive(Debug, Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

/// A mail server that takes mail from this service.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name, or its IP address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept from being read.
    pub tls: Tls,
    /// With what to log in, if it asks for that.
    pub login: Option<Login>,
    /// How many mails it gets, as a share of the sum of all servers' weights; from 1.
    pub weight: u32,
    /// How many connections it may have at once, from 1; as many as there are mails under way if nothing is said.
    pub connections: Option<u32>,
}

/// How mail is sent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// By which servers: each mail by one of them, and by another one if that cannot be reached.
    pub servers: Vec<Server>,
    /// Whom it is from: `Name <a@b>` or `a@b`. Its domain is the right side of the `Message-ID`s.
    pub from: String,
    /// Where answers go, written likewise; to `from` if nothing is said.
    pub reply_to: Option<String>,
    /// Where a mailing's recipient is unsubscribed by one click (RFC 8058): an https URL in which `{id}` stands for the
    /// message's id. Without it no such header is written.
    pub unsubscribe_url: Option<String>,
    /// What the service calls itself in `EHLO`; the address of its end of the connection if nothing is said.
    pub hello_name: Option<String>,
    /// A PEM file of certificate authorities to trust besides the system's.
    pub extra_ca: Option<PathBuf>,
    /// After so many mails a connection is closed and another one opened.
    pub mails_per_connection: u32,
}

impl Settings {
    /// With the servers of `urls` (as [`servers`] reads them), and the default for all else.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`servers`] says. All the rest is checked by [`Email::new`](super::Email::new).
    pub fn new(urls: &str, tls: Option<Tls>, from: impl Into<String>) -> Result<Self> {
        Ok(Self {
            servers: servers(urls, tls)?,
            from: from.into(),
            reply_to: None,
            unsubscribe_url: None,
            hello_name: None,
            extra_ca: None,
            mails_per_connection: DEFAULT_MAILS_PER_CONNECTION,
        })
    }
}

/// The servers of `SMTP_URL`: `smtp[s]://[USER:PASSWORD@]HOST[:PORT][?weight=N&connections=N]`, one or several of them
/// with commas or spaces between. User and password are percent-encoded. `smtps` means implicit TLS; `smtp` means what `tls` says, and
/// STARTTLS if it says nothing. The port is 587 with STARTTLS, 465 with implicit TLS and 25 in clear.
///
/// # Errors
/// [`Error::Invalid`], which repeats nothing of the text: there is a password in it.
pub fn servers(text: &str, tls: Option<Tls>) -> Result<Vec<Server>> {
    let urls = text.split([',', ' ', '\t', '\n', '\r']).filter(|url| !url.is_empty());
    let servers = urls.enumerate().map(|(at, url)| {
        server(url, tls)
            .map_err(|why| Error::invalid(URL_FIELD, format!("server {}: {why}", at.saturating_add(1))))
    });
    let servers = servers.collect::<Result<Vec<_>>>()?;
    if servers.is_empty() {
        return Err(Error::invalid(URL_FIELD, "must name at least one server: smtp://HOST"));
    }
    Ok(servers)
}

fn server(text: &str, tls: Option<Tls>) -> Result<Server, &'static str> {
    let form = "must be smtp[s]://[USER:PASSWORD@]HOST[:PORT][?weight=N&connections=N]; in user and password \
                everything but letters and digits is best written as %XX";
    let url = Url::parse(text).map_err(|_| form)?;
    let tls = match (url.scheme(), tls) {
        ("smtp", tls) => tls.unwrap_or(Tls::Required),
        ("smtps", None | Some(Tls::Implicit)) => Tls::Implicit,
        ("smtps", Some(_)) => return Err("smtps:// is implicit TLS, and SMTP_TLS says something else"),
        _ => return Err(form),
    };
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(form);
    }
    let login = match (url.username(), url.password()) {
        ("", None) => None,
        ("", Some(_)) => return Err("there is a password and no user"),
        (_, None) => return Err("there is a user and no password"),
        (user, Some(password)) => {
            Some(Login { user: decoded(user)?, password: SecretString::from(decoded(password)?) })
        }
    };
    let host = host(&url).ok_or("the host is missing or is no name and no IP address")?;
    let port = url.port().unwrap_or(tls.port());
    if port == 0 {
        return Err("the port must be from 1 to 65535");
    }
    let (weight, connections) = options(&url)?;
    Ok(Server { host, port, tls, login, weight, connections })
}

/// A name in ASCII, or an IP address without its brackets.
fn host(url: &Url) -> Option<String> {
    match url.host()? {
        // of a scheme that the URL standard does not know the host is left as it was written
        Host::Domain(name) => match Host::parse(name).ok()? {
            Host::Domain(name) => Some(name),
            Host::Ipv4(ip) => Some(ip.to_string()),
            Host::Ipv6(ip) => Some(ip.to_string()),
        },
        Host::Ipv4(ip) => Some(ip.to_string()),
        Host::Ipv6(ip) => Some(ip.to_string()),
    }
}

fn options(url: &Url) -> Result<(u32, Option<u32>), &'static str> {
    let wrong = "after the ? of a server stand weight=N and connections=N, each once, N from 1 to 1000";
    let (mut weight, mut connections) = (None, None);
    for (key, value) in url.query_pairs() {
        let option = match &*key {
            "weight" => &mut weight,
            "connections" => &mut connections,
            _ => return Err(wrong),
        };
        let number: u32 = value.parse().map_err(|_| wrong)?;
        if !(1..=LARGEST).contains(&number) || option.replace(number).is_some() {
            return Err(wrong);
        }
    }
    Ok((weight.unwrap_or(DEFAULT_WEIGHT), connections))
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| "user and password must be UTF-8 once they are decoded")?;
    // ends the fields of AUTH PLAIN
    if text.contains('\0') {
        return Err("user and password must have no zero byte");
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests;
