//! Channels: adapters that deliver messages through a provider. They do not use the database.

mod channel;
mod delivery;
pub mod discord;
pub mod email;
pub mod gateway;
mod hook;
mod http;
pub mod in_app;
pub mod keyring;
#[cfg(test)]
mod odd_answers;
mod provider;
pub mod push;
mod report;
pub mod request;
mod request_spec;
pub mod sms;
pub mod sms_http;
pub mod webhook;

pub use channel::{AttemptFuture, Channel, MAX_UNRECORDED};
pub use delivery::Delivery;
pub use http::IDEMPOTENCY_KEY;
pub use report::{AttemptReport, DeliveryResult, StoredResponse};
pub use request_spec::{AttemptFailure, RequestSpec, RetryOn};
