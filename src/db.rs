//! PostgreSQL and SQLite behind one handle: [`Db::read`] and [`Db::write`].

mod any;
pub mod bulk;
mod connection;
pub mod effects;
pub(crate) mod element;
mod failure;
mod file;
pub mod group_commit;
mod handle;
mod limits;
pub mod listen;
pub mod migrations;
pub mod offline;
mod opening;
mod pool;
pub mod pulse;
pub mod schema;
pub mod secrets;
mod ticket;
mod tuning;
pub mod types;
mod writer;

pub use any::{AnyConnection, MultiBackend};
pub(crate) use bulk::insert_rows;
pub use failure::{is_deadlock, refuses_values};
pub use handle::{Db, DbOptions, PoolState};
pub use limits::Workload;
