//! Settings of the e-mail channel, and the parser of `SMTP_URL`.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::{Host, Url};

use crate::error::{Error, Result};

/// The setting that names the servers.
const URL_FIELD: &str = "email.smtp_url (SMTP_URL)";
const DEFAULT_WEIGHT: u32 = 1;
/// The largest weight, and the most connections.
const LARGEST: u32 = 1000;
/// Mails per connection. Servers that enforce a limit close theirs after some hundreds at the earliest.
const DEFAULT_MAILS_PER_CONNECTION: u32 = 100;

/// The encryption of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// The connection begins in clear text and must switch to TLS by STARTTLS before anything is sent (RFC 3207).
    Required,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// Clear text.
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

/// The credentials of this service at a mail server (RFC 4954).
#[derive(Debug, Clone)]
pub struct SmtpLogin {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

/// A mail server that relays for this service.
#[derive(Debug, Clone)]
pub struct MailServer {
    /// Host name, or IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The encryption of the connection.
    pub tls: Tls,
    /// The credentials, if the server requires authentication.
    pub login: Option<SmtpLogin>,
    /// The server's share of the mails, relative to the sum of all servers' weights; at least 1.
    pub weight: u32,
    /// The most simultaneous connections, at least 1. Unset means one per mail in flight.
    pub connections: Option<u32>,
}

/// The settings of the e-mail channel.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// The servers. Each mail goes through one of them, or through another if that one cannot be reached.
    pub servers: Vec<MailServer>,
    /// The sender: `Name <a@b>` or `a@b`. Its domain is the right side of the `Message-ID`s.
    pub from: String,
    /// The address for replies, in the same form. Unset means `from`.
    pub reply_to: Option<String>,
    /// The one-click unsubscribe URL of a mailing's recipient (RFC 8058): an https URL in which `{id}` stands for the
    /// message's id. Without it the header is omitted.
    pub unsubscribe_url: Option<String>,
    /// The name that the service sends in `EHLO`. Unset means the local address of the connection.
    pub hello_name: Option<String>,
    /// A PEM file of certificate authorities to trust besides the system's.
    pub extra_ca: Option<PathBuf>,
    /// A connection is replaced after this number of mails.
    pub mails_per_connection: u32,
}

impl SmtpSettings {
    /// Creates settings with the servers of `urls` (parsed by [`servers`]) and defaults for the rest.
    ///
    /// # Errors
    /// [`Error::Invalid`] as for [`servers`]. [`Email::new`](super::Email::new) checks the rest.
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

/// Parses `SMTP_URL`: one or several of `smtp[s]://[USER:PASSWORD@]HOST[:PORT][?weight=N&connections=N]`, separated by
/// commas or spaces. User and password are percent-encoded. `smtps` means implicit TLS; `smtp` uses the mode in `tls`,
/// or else STARTTLS. The default port is 587 with STARTTLS, 465 with implicit TLS and 25 in clear text.
///
/// # Errors
/// [`Error::Invalid`], which repeats no part of the text, since it contains a password.
pub fn servers(text: &str, tls: Option<Tls>) -> Result<Vec<MailServer>> {
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

fn server(text: &str, tls: Option<Tls>) -> Result<MailServer, &'static str> {
    let form = "must be smtp[s]://[USER:PASSWORD@]HOST[:PORT][?weight=N&connections=N]; percent-encode \
                every character of user and password except letters and digits";
    let url = Url::parse(text).map_err(|_| form)?;
    let tls = match (url.scheme(), tls) {
        ("smtp", tls) => tls.unwrap_or(Tls::Required),
        ("smtps", None | Some(Tls::Implicit)) => Tls::Implicit,
        ("smtps", Some(_)) => return Err("smtps:// is implicit TLS, but SMTP_TLS is set to another mode"),
        _ => return Err(form),
    };
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(form);
    }
    let login = match (url.username(), url.password()) {
        ("", None) => None,
        ("", Some(_)) => return Err("it has a password but no user"),
        (_, None) => return Err("it has a user but no password"),
        (user, Some(password)) => {
            Some(SmtpLogin { user: decoded(user)?, password: SecretString::from(decoded(password)?) })
        }
    };
    let host = host(&url).ok_or("the host is missing, or is neither a name nor an IP address")?;
    let port = url.port().unwrap_or(tls.port());
    if port == 0 {
        return Err("the port must be from 1 to 65535");
    }
    let (weight, connections) = options(&url)?;
    Ok(MailServer { host, port, tls, login, weight, connections })
}

/// Returns an ASCII host name, or an IP address without brackets.
fn host(url: &Url) -> Option<String> {
    match url.host()? {
        // the URL standard does not know this scheme, so the parser leaves its host unnormalized
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
    let wrong = "the options after ? are weight=N and connections=N, each at most once, N from 1 to 1000";
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
    let text = text.map_err(|_| "user and password must decode to UTF-8")?;
    // a NUL ends a field of AUTH PLAIN
    if text.contains('\0') {
        return Err("user and password must not have a zero byte");
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests;
