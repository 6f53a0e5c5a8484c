//! Notifications: one message or a batch, by channel, priority and time.

pub mod handler;
pub mod intake;
pub mod model;
pub mod repo;
pub mod usecase;

pub use usecase::Notifications;
