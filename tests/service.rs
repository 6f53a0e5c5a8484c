//! Tests of the whole service and of its parts against real peers: databases, brokers, mail servers, a browser.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails by panicking"
)]

mod process;
mod support;

mod api;
mod broker;
mod channels;
mod deployment;
mod kafka;
mod monitoring;
mod storage;
