//! Dead letters: messages that failed for good, and events that could not be taken. They are read, replayed and dropped.

pub mod handler;
pub mod keeper;
pub mod model;
pub mod replayer;
pub mod repo;
pub mod usecase;

pub use usecase::DeadLetters;
