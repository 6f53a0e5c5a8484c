//! Fanfare sends one message to one or many recipients inside a time window, and can prove the outcome of each message.
//!
//! # Modules
//!
//! The list is sorted by dependency: a module may import only modules above it. `tests/architecture.rs` checks this.
//!
//! | modules | purpose |
//! |---|---|
//! | [`error`], [`clock`], [`kinds`], [`locale`], [`paging`], [`config`], [`metrics`], [`lifecycle`], [`telemetry`], [`failpoint`], [`seal`], [`descriptors`], [`address`], [`sheet`] | shared basics |
//! | [`db`] | PostgreSQL and SQLite behind one handle |
//! | [`idempotency`] | repeated requests with an idempotency key |
//! | [`segments`], [`templates`] | segments of a text message; versioned templates |
//! | [`clients`], [`messages`] | people who can be reached; the record of each delivery |
//! | [`mailings`] | campaigns and their counts |
//! | [`live`] | status changes for waiting callers and event-stream subscribers |
//! | [`notifications`] | single messages and batches |
//! | [`routes`], [`events`] | business events, and the routes that turn them into messages |
//! | [`dead_letters`] | failed messages: list, replay, drop |
//! | [`pending_mailing`] | the start of due mailings |
//! | [`suppressions`] | addresses that receive nothing, whichever client has them |
//! | [`people`] | export and erasure of all data about a person |
//! | [`preferences`] | opt-outs and quiet hours of clients |
//! | [`egress`], [`oauth`], [`channels`] | outgoing requests, access tokens and providers; no database |
//! | [`credentials`] | credentials of outgoing requests: encrypted, never shown |
//! | [`inbox`] | messages of the channel `in_app`, per user |
//! | [`endpoints`] | webhook endpoints: secrets, and the disabling of failing ones |
//! | [`broker`] | events from a message broker; no database |
//! | [`delivery`] | the engine: feeder, lanes, dispatchers, recorder, claimer |
//! | [`http`] | the shared HTTP layer; handlers are in the domains' own folders |
//! | [`app`] | the composition root, the only place that wires |
//! | [`sandbox`], [`demo`] | a provider for tests, and a demonstration |
//! | [`cli`] | the commands of the binary |
//!
//! A domain has four layers, each in a file: `handler` (HTTP, no rules), `usecase` (rules, no HTTP and no SQL), `model`
//! (types that cannot hold invalid values), `repo` (SQL, no rules). No domain imports the engine. Instead a domain owns
//! a small port, such as [`mailings::usecase::Wakeup`], that the engine implements.

pub mod address;
pub mod app;
pub mod broker;
pub mod channels;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod db;
pub mod dead_letters;
pub mod delivery;
pub mod demo;
pub mod descriptors;
pub mod egress;
pub mod endpoints;
pub mod error;
pub mod events;
pub mod failpoint;
pub mod http;
pub mod idempotency;
pub mod inbox;
pub mod kinds;
pub mod lifecycle;
pub mod live;
pub mod locale;
pub mod mailings;
pub mod messages;
pub mod metrics;
pub mod notifications;
pub mod oauth;
pub mod paging;
pub mod pending_mailing;
pub mod people;
pub mod preferences;
pub mod requests;
pub mod routes;
pub mod runtime;
pub mod sandbox;
pub mod seal;
pub mod segments;
pub mod sending;
pub mod sheet;
pub mod suppressions;
pub mod telemetry;
pub mod templates;
