//! The locks around the state that the engine's tasks share.
//!
//! In unit tests each lock is also a scheduling point, at which a model test chooses the task that continues
//! (`sync/interleaving.rs`). So every order of the steps between two locks can occur, not only the orders that the
//! processors happen to produce.

#[cfg(not(test))]
pub use std::sync::{Mutex, MutexGuard};

#[cfg(test)]
pub use interleaving::{Mutex, MutexGuard};

#[cfg(test)]
mod interleaving;
#[cfg(test)]
mod tests;
