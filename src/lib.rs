//! Fanfare.
pub mod clients;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod http;
pub mod kinds;
pub mod mailings;
pub mod messages;
pub mod metrics;
pub mod paging;
pub mod templates;
