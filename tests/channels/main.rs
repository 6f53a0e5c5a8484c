//! The channels' adapters against real peers: programs in other languages that speak the providers' protocols.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod discord;
mod email;
mod hook;
mod peer;
mod push;
mod sms;
mod webhook;
