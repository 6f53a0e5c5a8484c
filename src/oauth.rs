//! Access tokens of OAuth 2.0, for machines that ask machines: which are fetched from a token endpoint, kept until
//! shortly before their end, and shared by all who need one. It knows neither who asks nor by which way.

pub mod account;
pub mod answer;
pub mod tokens;

pub use account::Account;
pub use tokens::{Failure, FailureKind, Fetch, Grant, Token, Tokens};

/// The type of a request's body at a token endpoint.
pub const FORM: &str = "application/x-www-form-urlencoded";
/// A longer answer is no token endpoint's.
pub const LONGEST_ANSWER: usize = 64 * 1024;
