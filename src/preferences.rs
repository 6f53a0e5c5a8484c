//! Preferences of clients: channels and groups that they opted out of, and their quiet hours. The engine checks them
//! before each attempt.

pub mod handler;
pub mod link;
pub mod model;
pub mod quiet;
pub mod repo;
pub mod usecase;

pub use usecase::PreferenceService;
