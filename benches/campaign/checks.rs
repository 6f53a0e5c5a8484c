//! Tests of the benchmark's parts.

mod figures;
mod flags;
mod posts;
mod requests;
mod system;
