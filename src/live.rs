//! Publishes status changes to waiting callers and event-stream subscribers. It works in memory: the database is the
//! record, and a subscriber that was not connected reads the state there.

pub mod board;
mod event;
pub mod handler;
mod hub;
pub mod inboxes;
pub mod observer;
mod peers;
mod publisher;

pub use self::event::{Change, EndpointChange, EventFilter, Interests, LiveEvent};
pub use self::publisher::{Live, Waiter, Watch};
