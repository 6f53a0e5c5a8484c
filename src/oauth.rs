//! OAuth 2.0 access tokens for machine-to-machine calls. A token is fetched from a token endpoint, cached until shortly
//! before it expires, and shared by all callers. The module knows neither the callers nor the transport.

pub mod account;
pub mod answer;
pub mod tokens;

pub use account::Account;
pub use tokens::{FailureKind, Fetch, Grant, Token, TokenCache, TokenFailure};

/// The content type of a request to a token endpoint.
pub const FORM: &str = "application/x-www-form-urlencoded";
/// The longest response body of a token endpoint.
pub const LONGEST_ANSWER: usize = 64 * 1024;
