//! The real binary, killed for real: what was accepted is sent, once.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../support/process.rs"]
mod process;
#[path = "../support/mod.rs"]
mod support;

mod accepted;

const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");
