//! The delivery engine: feeder, lanes, dispatchers, recorder and claimer, which share one set of leases.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod active_mailing;
pub mod active_mailings;
pub mod admitter;
pub mod adopter;
pub mod announce;
pub mod attempt;
pub mod backlog;
pub mod circuit_breaker;
pub mod claimer;
pub mod dispatcher;
pub mod engine;
pub mod feeder;
pub mod feeder_signal;
pub mod handles;
pub mod heartbeat;
pub mod lanes;
pub mod leases;
pub mod mean_duration;
pub mod model;
pub mod origin;
pub mod outcomes;
pub mod parts;
pub mod pause_switch;
pub mod planner;
pub mod preparer;
pub mod queues;
pub mod rate_limiter;
pub mod reasons;
pub mod recall;
pub mod recorder;
pub mod releaser;
pub mod repo;
pub mod retry;
pub mod sender;
pub mod settings;
mod stored;
pub mod suppress;
mod sync;

pub use engine::Engine;
pub use handles::EngineHandles;
pub use settings::{ChannelSetup, EngineSettings};
