//! Fanfare.
pub mod clock;
pub mod db;
pub mod error;
pub mod http;
pub mod kinds;
