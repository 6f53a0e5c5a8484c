//! The locks around what the engine's tasks share.
//!
//! In unit tests each is also a point at which another task may go on, in an order that a model test decides
//! (`sync/interleaving.rs`): so each order of the steps between two locks can come up, and not only those that the
//! processors happen to make.

#[cfg(not(test))]
pub use std::sync::{Mutex, MutexGuard};

#[cfg(test)]
pub use interleaving::{Mutex, MutexGuard};

#[cfg(test)]
mod interleaving;
#[cfg(test)]
mod tests;
