//! Fanfare sends one message to each of many people, or to one, inside a time window, and can prove what became of every
//! one.
//!
//! # The map of the house
//!
//! From the ground up; a module may import those above it in this list, never those below. `tests/architecture.rs`
//! checks it.
//!
//! | modules | what they are |
//! |---|---|
//! | [`error`], [`clock`], [`kinds`], [`locale`], [`paging`], [`config`], [`metrics`], [`lifecycle`], [`telemetry`], [`failpoint`], [`seal`], [`descriptors`], [`address`], [`sheet`] | the ground |
//! | [`db`] | the two databases behind one handle |
//! | [`idempotency`] | requests that may come twice |
//! | [`segments`], [`templates`] | what a text message comes to; texts to fill, kept with their versions |
//! | [`clients`], [`messages`] | who can be reached, what became of each delivery |
//! | [`mailings`] | campaigns and their books |
//! | [`live`] | what becomes of notifications and mailings, told to those who wait or watch |
//! | [`notifications`] | single messages and batches |
//! | [`routes`], [`events`] | what happened in the user's business, and which messages that causes |
//! | [`dead_letters`] | what failed: read, replayed, dropped |
//! | [`pending_mailing`] | what makes a mailing begin at its time |
//! | [`suppressions`] | addresses that nothing is sent to, whoever has them |
//! | [`people`] | all that is known of a person: given out, and erased |
//! | [`preferences`] | what clients opted out of, and when they are left alone |
//! | [`egress`], [`oauth`], [`channels`] | the way out, and access tokens for it; they know no database |
//! | [`credentials`] | what requests prove with who asks: kept encrypted, never shown |
//! | [`inbox`] | what the channel `in_app` delivers, kept for each user |
//! | [`endpoints`] | where webhooks go: secrets, and what is disabled because it fails |
//! | [`broker`] | events from a broker; it knows no database |
//! | [`delivery`] | the engine: feeder, lanes, dispatchers, recorder, claimer |
//! | [`http`] | HTTP in general; the domains' handlers are in their own folders |
//! | [`app`] | the composition root, the only place that wires |
//! | [`sandbox`], [`demo`] | a provider to try against, and a demonstration |
//! | [`cli`] | the commands of the binary |
//!
//! A domain has four layers, each in a file: `handler` (HTTP, no rules), `usecase` (rules, no HTTP and no SQL), `model`
//! (types that cannot be wrong), `repo` (SQL, no rules). No domain imports the engine: it owns a small port, such as
//! [`mailings::usecase::Wakeup`], that the engine implements.

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
pub mod sandbox;
pub mod seal;
pub mod segments;
pub mod sending;
pub mod sheet;
pub mod suppressions;
pub mod telemetry;
pub mod templates;
