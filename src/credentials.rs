//! Credentials, which authenticate outgoing requests. They are stored by name, encrypted, and never shown again.
//!
//! [`keys`] gives a channel the authorization before each attempt, from a cache, so that this costs no statement.

mod cache;
pub mod handler;
pub mod keys;
pub mod model;
pub mod repo;
pub mod rules;
pub mod tokens;
pub mod usecase;
pub mod vault;
pub mod views;

pub use model::Credential;
pub use usecase::Credentials;
pub use vault::Vault;
