//! The API as its users meet it: the real server on a free port, on both databases.
#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod ask;
mod bodies;
mod clients;
mod import;
mod lists;
mod mailing_filters;
mod mailing_states;
mod mailings;
