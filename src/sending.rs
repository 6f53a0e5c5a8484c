//! Whether the installation sends at all: the switch that stops everything that leaves over any channel, kept in the
//! database for all nodes. Everything is accepted meanwhile, and waits.

pub mod handler;
pub mod repo;
pub mod usecase;

pub use usecase::Sending;
