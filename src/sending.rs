//! Pauses and resumes everything that leaves over any channel. The switch is kept in the database, for all nodes. Everything is accepted meanwhile, and waits.

pub mod handler;
pub mod repo;
pub mod usecase;

pub use usecase::Sending;
