//! The result of applying rows.

use super::super::report::{PreviewRow, Rejection, Warning};
use super::super::row::FileRow;
use crate::clients::model::Client;
use crate::db::types::ClientId;

/// The result of applying a chunk: the clients to write, and the report.
#[derive(Debug, Default)]
pub(in super::super) struct Merged {
    /// The new clients.
    pub(in super::super) new: Vec<Client>,
    /// The clients that differ from their stored version.
    pub(in super::super) changed: Vec<Client>,
    /// The changed clients that give up an external id, which another client may take.
    pub(in super::super) freed: Vec<ClientId>,
    /// The changed clients that give up a phone number, which another client may take.
    pub(in super::super) moved: Vec<ClientId>,
    pub(in super::super) created: u64,
    pub(in super::super) updated: u64,
    pub(in super::super) rejected: Vec<Rejection>,
    /// The rows whose number another client has, which may give it up further down in the file.
    pub(in super::super) deferred: Vec<Deferred>,
    /// The first rows with their clients.
    pub(in super::super) preview: Vec<PreviewRow>,
    /// The values that were skipped because they do not fit the type of their attribute.
    pub(in super::super) unfit: Vec<Warning>,
}

/// A row that is retried at the end of the file, and its rejection if that fails.
#[derive(Debug, Clone)]
pub(in super::super) struct Deferred {
    pub(in super::super) row: FileRow,
    pub(in super::super) rejection: Rejection,
}

/// The effect of a row.
pub(super) struct Applied {
    /// The index of its client.
    pub(super) place: usize,
    pub(super) is_new: bool,
}
