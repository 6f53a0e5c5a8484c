//! The only module that creates HTTP clients.

mod connection;
mod endpoint;
pub mod guard;
mod head;
mod lenient;
pub mod local;

use std::time::Duration;

pub use endpoint::{BodyError, Endpoint, EndpointResponse, NoResponse};

use crate::error::{Error, Result};

/// The `User-Agent` of outgoing requests.
pub const USER_AGENT: &str = concat!("fanfare/", env!("CARGO_PKG_VERSION"));
/// Timeout of opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections are closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Creates a client for occasional calls. It follows no redirects and ignores proxy variables.
///
/// # Errors
/// If TLS cannot be set up.
pub fn client() -> Result<reqwest::Client> {
    // fails if a provider is already installed, which is fine
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
