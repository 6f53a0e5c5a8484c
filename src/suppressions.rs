//! Suppressions: addresses that receive no messages, or none of a group, whichever client has them. Every path that
//! sends checks them, and they outlive the client.

pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;

pub use usecase::Suppressions;
