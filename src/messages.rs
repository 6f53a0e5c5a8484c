//! Messages: the records of deliveries and their attempts, for reading. The engine (`delivery`) writes them.

pub mod cancelling;
pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;

pub use usecase::Messages;
