//! Recurring requests: what makes a request at each of its times.

pub mod handler;
pub mod model;
pub mod repo;
pub mod timekeeper;
pub mod usecase;

pub use usecase::Recurring;
