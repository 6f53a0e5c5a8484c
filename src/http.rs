//! HTTP in general: problems, JSON bodies, paging, access, logging and the documents. The domains' own handlers
//! are in their folders.

pub mod access;
pub mod bodies;
pub mod browser;
pub mod channels;
pub mod connection;
pub mod dry_run;
pub mod effects;
pub mod events;
pub mod export;
pub mod figures;
pub mod health;
pub mod json;
pub mod metrics;
pub mod once;
pub mod openapi;
pub mod parameters;
pub mod prefer;
pub mod problem;
pub mod request_log;
pub mod routing;
pub mod server;
pub mod wrong_keys;
