//! Export and erasure of a person's data.
//!
//! A client is one row. A person's data is also in its messages, in the events that caused them, in its inbox and in
//! the suppressions of its addresses. This module depends on all of these domains.

pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;
pub mod views;

pub use usecase::People;
