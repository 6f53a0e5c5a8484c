//! Tests of the HTTP API: the real server on a free port, on both databases.
#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "../support/process.rs"]
mod process;
#[path = "../support/mod.rs"]
mod support;

mod access;
mod ask;
mod attributes;
mod bodies;
mod browsers;
mod channels;
mod clients;
mod credentials;
mod database_away;
mod database_refuses;
mod dead_letters;
mod endpoints;
mod events;
mod exact;
mod exports;
mod figures;
mod hostile;
mod hostile_templates;
mod import;
mod import_files;
mod import_jobs;
mod import_reading;
mod inbox;
mod lists;
mod logs;
mod mailing_filters;
mod mailing_states;
mod mailing_stats;
mod mailings;
mod messages;
mod migrate;
mod notifications;
mod openapi;
mod operation;
mod parameters;
mod peers;
mod people;
mod phones;
mod preferences;
mod preview;
mod recurring;
mod requests;
mod routes;
mod sandbox;
mod slow_peers;
mod stream;
mod suppressions;
mod templates;
