//! Dead letters: messages that failed for good, and broker events that could not be accepted. The API lists, replays
//! and drops them.

pub mod handler;
pub mod keeper;
pub mod model;
pub mod replayer;
pub mod repo;
pub mod usecase;

pub use usecase::DeadLetters;
