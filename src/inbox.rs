//! Inboxes: what is delivered over the channel `in_app`, kept for each user until it is old, and shown by the user's pages.

pub mod delivery;
pub mod handler;
pub mod model;
pub mod repo;
pub mod token;
pub mod usecase;

pub use usecase::Inbox;
