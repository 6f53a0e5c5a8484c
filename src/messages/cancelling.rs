//! Cancels messages wherever they wait: in the database, or in a node's lanes.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::repo::cancellation::{self, CancellationState};
use crate::db::Db;
use crate::db::types::MessageId;
use crate::error::{Error, Result};
use crate::failpoint;

/// The time within which a node has to respond.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first pause between two polls; each pause is twice as long as the one before, up to [`LONGEST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// The part of the engine that cancelling uses.
pub trait Recall: Send + Sync {
    /// Removes the messages whose cancellation was requested from this node's lanes, and notifies the other nodes.
    fn recall(&self) -> BoxFuture<'static, ()>;
}

/// Waits until no new attempt at these messages, whose cancellation was requested, can begin, or until [`PATIENCE`] is
/// over.
///
/// # Errors
/// Database errors.
pub async fn settle(db: &Db, recall: &dyn Recall, ids: &[MessageId]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    failpoint::reach("cancellation-after-commit");
    recall.recall().await;
    let until = Instant::now() + PATIENCE;
    let mut pause = FIRST_LOOK;
    loop {
        let asked = ids.to_vec();
        let came = db.read(move |c| cancellation::came(c, &asked)).await?;
        if !came.values().any(|came| *came == CancellationState::Unanswered) || Instant::now() >= until {
            return Ok(());
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_LOOK);
    }
}

/// Returns the error of a cancellation to which the node that holds the message did not respond.
pub fn unanswered(what: &str) -> Error {
    Error::OutcomeUnknown(format!("{what}: the node that holds it did not respond").into())
}
