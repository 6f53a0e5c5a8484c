//! Pending mailings: the rows that make mailings start at their time, and the watchdog that starts them.

pub mod repo;
pub mod watchdog;
