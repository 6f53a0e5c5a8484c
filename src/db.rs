//! The two databases behind one handle: [`Db::read`] and [`Db::write`].

mod any;
pub mod bulk;
pub mod connection;
pub mod gather;
pub mod listen;
pub mod migrations;
mod opening;
pub mod schema;
pub mod secrets;
pub mod types;
mod writer;

pub use any::{AnyConnection, MultiBackend};
pub(crate) use bulk::insert_rows;
pub use connection::{Db, DbOptions, PoolState, refuses_values};
