//! Imports that run beside the request that brought the file: as jobs with a row each, which say how far they have come.
//!
//! The file is received into a temporary file without a name, which goes with the process, however that ends. So a job that is
//! begun ends on its own node, or is marked as failed by another one: its row is held for a while and the hold is renewed
//! with its progress. Rejected: keeping the file for another node, which would need a store that all nodes share; posting it
//! again does the same, since rows that were imported are only updated.

pub mod handler;
pub mod model;
pub mod repo;
pub mod runner;
pub mod usecase;
