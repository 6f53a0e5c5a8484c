//! Pauses and resumes sending on all channels. The switch is stored in the database, for all nodes. While sending is
//! paused, everything is still accepted, and waits.

pub mod handler;
pub mod repo;
pub mod usecase;

pub use usecase::Sending;
