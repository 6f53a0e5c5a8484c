//! Credentials: what requests prove with who asks. They are kept under names, encrypted, and never shown again.
//!
//! [`keys`] is what a channel asks before each attempt; it remembers, so that this costs no statement.

pub mod handler;
pub mod keys;
pub mod model;
pub mod repo;
pub mod rules;
pub mod tokens;
pub mod usecase;
pub mod vault;

pub use model::Credential;
pub use usecase::Credentials;
pub use vault::Vault;
