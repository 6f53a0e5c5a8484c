//! Webhook endpoints: their secrets and their state. An endpoint that fails for long is disabled.
//!
//! The webhook channel uses [`cache`] at each attempt: it reads the settings from it and reports the result to it,
//! without a query per attempt.

pub mod cache;
pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;
pub mod views;

pub use cache::EndpointCache;
pub use model::{EndpointOptions, WebhookEndpoint};
pub use usecase::Endpoints;
