//! The addresses of the broker and the account. Secrets are removed from the addresses here, so that no log can show
//! them.

use std::fmt;
use std::path::PathBuf;

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::error::{Error, Result};

/// The broker's servers and the account there.
#[derive(Debug, Clone)]
pub struct Access {
    servers: Vec<Server>,
    login: Login,
    /// A PEM file of certificate authorities to trust instead of the system's.
    extra_ca: Option<PathBuf>,
}

#[derive(Debug, Clone)]
enum Login {
    Nobody,
    Token(SecretString),
    User(String, SecretString),
    /// A file with a JWT and the seed of a key, as `nsc` writes it.
    Credentials(PathBuf),
}

#[derive(Debug, Clone)]
struct Server {
    /// The URL, without user and password.
    address: ServerAddr,
    /// The host and port, for logs.
    name: String,
}

impl Access {
    /// Parses one or several `nats://` or `tls://` URLs, separated by commas. A user and password, or a token, must be
    /// the same for all servers.
    ///
    /// # Errors
    /// The reason why a URL is invalid, without the URL.
    pub fn new(
        urls: &SecretString,
        credentials: Option<PathBuf>,
        extra_ca: Option<PathBuf>,
    ) -> Result<Self, &'static str> {
        let mut servers = Vec::new();
        let mut login = None;
        for text in urls.expose_secret().split(',').map(str::trim) {
            let mut url = Url::parse(text).map_err(|_| "must be URLs such as nats://broker:4222")?;
            if !matches!(url.scheme(), "nats" | "tls") || !url.has_host() {
                return Err("must begin with nats:// or tls:// and name a host");
            }
            if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
                return Err("must end with the port: only user, password, host and port are allowed");
            }
            let own = account(&url)?;
            if let Some(own) = own {
                let known = login.get_or_insert_with(|| own.clone());
                if *known != own {
                    return Err("must have one user and password, or one token, for all servers");
                }
            }
            // these fail only for URLs without a host
            let _ = (url.set_username(""), url.set_password(None));
            let (host, port) = (url.host_str().unwrap_or_default(), url.port().unwrap_or(4222));
            let name = format!("{host}:{port}");
            let address = ServerAddr::from_url(url).map_err(|_| "must be URLs such as nats://broker:4222")?;
            servers.push(Server { address, name });
        }
        let login = match (login, credentials) {
            (Some(_), Some(_)) => return Err("must not have a user or a token if NATS_CREDENTIALS is set"),
            (None, Some(path)) => Login::Credentials(path),
            (None, None) => Login::Nobody,
            (Some((token, None)), None) => Login::Token(token.into()),
            (Some((user, Some(password))), None) => Login::User(user, password.into()),
        };
        Ok(Self { servers, login, extra_ca })
    }

    pub(super) fn addresses(&self) -> Vec<ServerAddr> {
        self.servers.iter().map(|server| server.address.clone()).collect()
    }

    /// Returns the options of a connection. A file is read each time, since it may have been replaced.
    pub(super) async fn options(&self) -> Result<ConnectOptions> {
        let mut options = ConnectOptions::new().name("fanfare");
        if let Some(path) = &self.extra_ca {
            options = options.add_root_certificates(path.clone());
        }
        Ok(match &self.login {
            Login::Nobody => options,
            Login::Token(token) => options.token(token.expose_secret().to_owned()),
            Login::User(user, password) => {
                options.user_and_password(user.clone(), password.expose_secret().to_owned())
            }
            Login::Credentials(path) => {
                let cannot = |why: &str| {
                    let path = path.display();
                    Error::Unavailable(format!("{path} (NATS_CREDENTIALS) cannot be used: {why}").into())
                };
                let text = tokio::fs::read_to_string(path).await.map_err(|e| cannot(&e.to_string()))?;
                // its error might repeat the content of the file
                options.credentials(&text).map_err(|_| cannot("it does not contain a JWT and a seed"))?
            }
        })
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, server) in self.servers.iter().enumerate() {
            write!(f, "{}{}", if at > 0 { ", " } else { "" }, server.name)?;
        }
        Ok(())
    }
}

/// Returns the user and password of a URL, or only a token.
fn account(url: &Url) -> Result<Option<(String, Option<String>)>, &'static str> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
    let not_text = |_| "must have a user and password of UTF-8";
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, password) => {
            let password = password.map(decoded).transpose().map_err(not_text)?;
            Ok(Some((decoded(user).map_err(not_text)?, password)))
        }
    }
}
