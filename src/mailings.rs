//! Mailings: a text, a filter over clients and a window in time, and the books of what became of it.

pub mod filter;
pub mod handler;
pub mod model;
pub mod recipient;
pub mod rehearsal;
pub mod repo;
pub mod usecase;

pub use usecase::Mailings;
