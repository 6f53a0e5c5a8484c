//! Mailings: a text, a filter over clients, a window in time, and the counts of their messages.

pub mod filter;
pub mod handler;
pub mod model;
pub mod recipient;
pub mod rehearsal;
pub mod repo;
pub mod usecase;
pub mod views;

pub use usecase::Mailings;
