//! All that is known of a person: given out, and erased.
//!
//! A client is a row; a person is also in the messages that went to it, in the events that caused them, in its inbox and in
//! what stands against its addresses. This module stands above all of these.

pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;

pub use usecase::People;
