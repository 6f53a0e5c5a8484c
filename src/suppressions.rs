//! Suppressions: addresses that nothing is sent to, or nothing of a group, whoever has them. They are asked on every path that
//! sends, and outlive the client whose address it was.

pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;

pub use usecase::Suppressions;
