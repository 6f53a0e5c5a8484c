//! Scheduled and recurring HTTP requests, whose results are reported to another URL.

pub mod cron;
pub mod handler;
pub mod intake;
pub mod model;
pub mod recurring;
pub mod repo;
pub mod report;
pub mod usecase;
pub mod views;

pub use recurring::Recurring;
pub use usecase::Requests;
