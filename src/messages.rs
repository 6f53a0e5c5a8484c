//! Messages: the record of each delivery and of its attempts, to be read. The engine writes them (`delivery`).

pub mod cancelling;
pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;

pub use usecase::Messages;
