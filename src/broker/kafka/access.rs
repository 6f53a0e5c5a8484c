//! The addresses of the brokers, and the credentials.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use krafka::auth::{AuthConfig, TlsConfig};
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Result};

/// The time-out of a connection attempt.
const CONNECT: Duration = Duration::from_secs(5);
/// The time-out of a request. A fetch waits for records within it.
const ANSWER: Duration = Duration::from_secs(15);
/// The age after which metadata of topics and leaders is refreshed.
const METADATA_AGE: Duration = Duration::from_secs(30);
/// The largest response, in bytes.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// The brokers and the account there.
#[derive(Debug, Clone)]
pub struct Access {
    /// `HOST:PORT`, several separated by commas.
    pub brokers: String,
    /// Encrypts the connection.
    pub tls: bool,
    /// A PEM file of authorities that replaces the system's.
    pub ca: Option<PathBuf>,
    /// The SASL account.
    pub login: Option<Login>,
}

/// A SASL account.
#[derive(Debug, Clone)]
pub struct Login {
    /// The mechanism that proves it.
    pub mechanism: Mechanism,
    /// The user name.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// PLAIN (RFC 4616): sends the password itself.
    Plain,
    /// SCRAM-SHA-256 (RFC 5802, RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

impl Access {
    /// Checks addresses: `HOST:PORT`, several separated by commas.
    ///
    /// # Errors
    /// A description of a valid value.
    pub fn check(brokers: &str) -> Result<(), &'static str> {
        const WRONG: &str = "must be addresses such as kafka-1:9092,kafka-2:9092";
        for address in brokers.split(',').map(str::trim) {
            let (host, port) = address.rsplit_once(':').ok_or(WRONG)?;
            let is_host = !host.is_empty() && !host.contains(['/', '@', ' ']);
            if !is_host || !port.parse::<u16>().is_ok_and(|port| port > 0) {
                return Err(WRONG);
            }
        }
        Ok(())
    }

    /// Connects to the first broker that responds.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no broker responds, or the account is refused.
    pub(super) async fn connect(&self) -> Result<krafka::Kafka> {
        let builder = krafka::Kafka::builder(self.brokers.clone())
            .client_id("fanfare")
            .connect_timeout(CONNECT)
            .request_timeout(ANSWER)
            .metadata_max_age(METADATA_AGE)
            .max_response_size(LARGEST_ANSWER)
            .security(self.security());
        builder.connect().await.map_err(|e| Error::Unavailable(e.into()))
    }

    fn security(&self) -> AuthConfig {
        let security = match &self.login {
            None => AuthConfig::plaintext(),
            Some(Login { mechanism, username, password }) => {
                let (username, password) = (username.clone(), password.expose_secret());
                match mechanism {
                    Mechanism::Plain => AuthConfig::sasl_plain(username, password),
                    Mechanism::ScramSha256 => AuthConfig::sasl_scram_sha256(username, password),
                    Mechanism::ScramSha512 => AuthConfig::sasl_scram_sha512(username, password),
                }
            }
        };
        if !self.tls {
            return security;
        }
        let tls = match &self.ca {
            Some(path) => TlsConfig::new().with_ca_cert(path.to_string_lossy()),
            None => TlsConfig::new().with_native_roots(),
        };
        security.with_tls(tls)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.brokers)
    }
}
