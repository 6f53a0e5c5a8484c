//! Endpoints of webhooks: their secrets, and whether they are sent to. One that fails for long is disabled.
//!
//! [`book`] is what the webhook channel asks and tells at each attempt; it remembers, so that neither costs a statement.

pub mod book;
pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;

pub use book::Book;
pub use model::{Settings, WebhookEndpoint};
pub use usecase::Endpoints;
