//! Business events, their targets, and the messages that they cause.

pub mod handler;
pub mod intake;
pub mod model;
pub mod order;
pub mod plan;
pub mod positions;
pub mod refused;
pub mod repo;
pub mod retrier;
pub mod target;
pub mod usecase;
pub mod views;

pub use usecase::Events;
