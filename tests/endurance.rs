//! Tests of the delivery guarantees, most of them heavy: the engine under load, and the real binary, killed for real.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]
#![expect(clippy::print_stdout, reason = "`make crash-test` shows the results of the checks")]

mod process;
mod support;

mod checker;
mod crash;
mod delivery;
