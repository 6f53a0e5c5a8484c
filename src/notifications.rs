//! Notifications: single messages and batches, each with a channel, a priority and a schedule.

pub mod handler;
pub mod intake;
pub mod model;
pub mod notifier;
pub mod repo;
pub mod usecase;
pub mod views;

pub use usecase::Notifications;
