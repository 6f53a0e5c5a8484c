//! The one module that makes HTTP clients.

mod connection;
mod endpoint;
pub mod guard;
mod head;
mod lenient;
pub mod local;

use std::time::Duration;

pub use endpoint::{Endpoint, NoAnswer, NoBody, Reply};

use crate::error::{Error, Result};

/// How the service names itself.
pub const USER_AGENT: &str = concat!("fanfare/", env!("CARGO_PKG_VERSION"));
/// For a connection to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that were not used for so long are closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A client for calls that are few: redirects are not followed, proxy variables are ignored.
///
/// # Errors
/// When the TLS stack cannot be set up.
pub fn client() -> Result<reqwest::Client> {
    // fails when it is installed already, which is what is wanted
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "this is the egress module")]
    let builder = reqwest::Client::builder();
    builder
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
        .map_err(|e| Error::Internal(e.into()))
}
