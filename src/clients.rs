//! Clients: the people who can be reached, one by one over REST and by the million from CSV.
//!
//! The layers, from the ground up: [`model`] has the types that cannot be wrong, [`repo`] the SQL, [`usecase`] the
//! rules, [`handler`] the HTTP. [`import`] is one road for an upload and for the command line; [`jobs`] runs it beside
//! the request.

pub mod declared;
pub mod handler;
pub mod import;
pub mod jobs;
pub mod model;
pub mod reach;
pub mod repo;
pub mod usecase;

pub use model::{Client, ClientPatch, Field, ListFilter};
pub use usecase::Clients;
