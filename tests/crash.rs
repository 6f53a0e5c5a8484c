//! Kills the real binary: accepted messages are sent, once.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]
#![expect(clippy::print_stdout, reason = "`make crash-test` shows the results of the checks")]

#[path = "../support/process.rs"]
mod process;
#[path = "../support/mod.rs"]
mod support;

mod accepted;
mod campaign;
mod disk_full;
mod events;
mod failpoints;
mod kills;
mod lost_file;
mod mails;
mod nodes;
mod notifications;
mod postgres_restart;
mod posting;
mod program;
mod recurring;
mod replay;
mod requests;
mod silent_postgres;
mod stop;
