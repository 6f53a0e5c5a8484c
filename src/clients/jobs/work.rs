//! The files that wait for their imports.

use std::io::Read;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::clients::import::{ImportOptions, ImportReport, Stopped};
use crate::db::types::ImportId;
use crate::error::Result;

/// A file that was received.
pub struct Received {
    /// The rows.
    pub source: Box<dyn Read + Send>,
    /// The number of bytes that were received.
    pub size: u64,
    /// The options of the import.
    pub options: ImportOptions,
    /// The permit.
    pub place: OwnedSemaphorePermit,
}

/// A file that waits for its import.
pub struct Work {
    pub(super) id: ImportId,
    pub(super) received: Received,
    /// The idempotency key under which the response is stored when the import has ended.
    pub(super) key: Option<String>,
    /// Notifies the caller that waits for the end.
    pub(super) done: oneshot::Sender<Result<ImportReport, Stopped>>,
}
