//! The channels' adapters against real peers: programs in other languages that speak the providers' protocols.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod credentials;
mod discord;
mod email;
mod hook;
mod peer;
mod push;
mod requests;
mod sms;
mod unsubscribe;
mod webhook;
mod whole;
