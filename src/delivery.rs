//! The delivery engine: feeder, lanes, dispatchers, recorder and claimer around one set of pages.

pub mod announce;
pub mod backlog;
pub mod claimer;
pub mod engine;
pub mod feeder;
pub mod gate;
pub mod heed;
pub mod lanes;
pub mod model;
pub mod origin;
pub mod pacer;
pub mod pages;
pub mod recall;
pub mod recorder;
pub mod repo;
pub mod retry;
pub mod shared;
mod sync;
pub mod valve;
pub mod worker;

pub use engine::{ChannelSetup, Engine, Handle};
pub use shared::Settings;
