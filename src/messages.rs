//! Messages: the records of deliveries and their attempts, for reading. The engine (`delivery`) writes them.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod cancelling;
pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;

pub use usecase::Messages;
