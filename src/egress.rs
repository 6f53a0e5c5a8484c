//! The one module that makes HTTP clients.

use std::time::Duration;

use crate::error::{Error, Result};

/// Idle connections kept to one host: enough for the largest sensible concurrency.
const IDLE_CONNECTIONS: usize = 1024;

/// A client for a provider whose address the operator configured: connections are reused, redirects are not followed
/// (a message must not wander), proxy variables are ignored.
///
/// # Errors
/// When the TLS stack cannot be set up.
pub fn provider_client() -> Result<reqwest::Client> {
    // fails when it is installed already, which is what is wanted
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "this is the egress module")]
    let builder = reqwest::Client::builder();
    builder
        .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5))
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .pool_idle_timeout(Duration::from_secs(60))
        .build()
        .map_err(|e| Error::Internal(e.into()))
}
