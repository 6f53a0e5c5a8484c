//! The delivery engine: feeder, lanes, dispatchers, recorder and claimer, which share one set of leases.

pub mod active_mailing;
pub mod announce;
pub mod backlog;
pub mod circuit_breaker;
pub mod claimer;
pub mod engine;
pub mod feeder;
pub mod lanes;
pub mod leases;
pub mod model;
pub mod origin;
pub mod pause_switch;
pub mod rate_limiter;
pub mod reasons;
pub mod recall;
pub mod recorder;
pub mod repo;
pub mod retry;
pub mod settings;
pub mod shared;
mod stored;
pub mod suppress;
mod sync;
pub mod worker;

pub use engine::{Engine, EngineHandles};
pub use settings::{ChannelSetup, EngineSettings};
