//! Routes, which select the messages that a business event causes.

pub mod cache;
pub mod handler;
pub mod load;
pub mod model;
pub mod pattern;
pub mod repo;
pub mod usecase;
pub mod views;

mod condition;

pub use usecase::Routes;
