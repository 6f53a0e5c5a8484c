//! Imports that run in the background as jobs. Each job has a row that shows its progress.
//!
//! The upload is stored in a temporary file without a name, which disappears with the process, however that ends. So a
//! job ends on the node that started it, or another node marks it as failed: the node leases the job's row and renews
//! the lease with each progress update. Rejected: keeping the file for another node, which would need a store that all
//! nodes share. Posting the file again does the same, because rows that were imported are only updated.

pub mod handler;
pub mod model;
pub mod repo;
pub mod runner;
pub mod usecase;
pub mod views;
pub mod work;
