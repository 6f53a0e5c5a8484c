//! The HTTP layer shared by all domains: problems, JSON bodies, access, logging and the OpenAPI document. The handlers
//! are in the domains' own folders.

pub mod access;
pub mod bodies;
pub mod browser;
pub mod channels;
pub mod connection;
pub mod dry_run;
pub mod effects;
pub mod events;
pub mod export;
pub mod health;
pub mod idempotency_header;
pub mod json;
pub mod metrics;
pub mod openapi;
pub mod operations;
pub mod parameters;
pub mod prefer;
pub mod problem;
pub mod request_log;
pub mod routing;
pub mod server;
pub mod stats;
pub mod wrong_keys;
