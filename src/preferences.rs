//! What clients want and when: channels and groups that they opted out of, and the hours of the day in which they are
//! left alone. The engine asks before each attempt.

pub mod handler;
pub mod link;
pub mod model;
pub mod quiet;
pub mod repo;
pub mod usecase;

pub use usecase::Preferring;
