//! Inboxes: messages of the channel `in_app`, stored for each user until they expire, and shown by the user's pages.

pub mod delivery;
pub mod handler;
pub mod model;
pub mod repo;
pub mod token;
pub mod usecase;
pub mod views;

pub use usecase::Inbox;
