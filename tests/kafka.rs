//! Events from a real Kafka broker into the whole service, on both databases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

#[path = "../support/process.rs"]
mod process;
#[path = "../support/mod.rs"]
mod support;

mod access;
mod groups;
mod house;
mod interrupted;
mod kills;
mod outages;
mod records;
mod refused;
