//! Clients: the people who can be reached, one by one over REST and by the million from CSV.
//!
//! The layers, from the bottom up: [`model`] has the validated types, [`repo`] the SQL, [`usecase`] the rules,
//! [`views`] the shapes of the API, and [`handler`] the HTTP. [`import`] is the same code for an upload and for the
//! command line; [`jobs`] runs it in the background.

pub mod declared;
pub mod handler;
pub mod import;
pub mod jobs;
pub mod model;
pub mod reach;
pub mod repo;
mod schema;
pub mod usecase;
pub mod views;

pub use model::{Client, ClientPatch, Field, ListFilter};
pub use usecase::Clients;
