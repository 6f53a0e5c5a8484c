//! The demonstration.
pub mod generator;
