//! Applies a chunk of rows to the stored clients. It has only the rules and does not use the database.

mod index;
mod keyed;
mod numbered;
mod outcome;

pub(super) use self::keyed::merge_by_key;
pub(super) use self::numbered::merge;
pub(super) use self::outcome::{Deferred, Merged};
