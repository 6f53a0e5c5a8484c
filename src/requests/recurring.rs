//! Recurring requests, which create a request at each of their times.

pub mod handler;
pub mod model;
pub mod repo;
pub mod timekeeper;
pub mod usecase;
pub mod views;

pub use usecase::Recurring;
