//! The channels' adapters against real peers: programs in other languages that speak the providers' protocols.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

#[expect(dead_code, reason = "the channels' tests come with their adapters")]
mod peer;
