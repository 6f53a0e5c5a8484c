//! Pending mailings: what makes a mailing begin at its time.

pub mod repo;
pub mod watchdog;
