//! Cancelling messages wherever they wait: in the database, or in a node's lanes.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::repo::cancellation::{self, Came};
use crate::db::Db;
use crate::db::types::MessageId;
use crate::error::{Error, Result};
use crate::failpoint;

/// For so long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first pause between two looks; each is longer than the one before.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// The engine, as far as cancelling needs it.
pub trait Recall: Send + Sync {
    /// Some messages that nodes have in hand are noted as cancelled: takes those of this node back from its lanes, and
    /// tells the others.
    fn recall(&self) -> BoxFuture<'static, ()>;
}

/// Returns when no attempt at any of these messages, which were noted, can begin any more, or when that is not known after
/// [`PATIENCE`].
///
/// # Errors
/// Those of the database.
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
        if !came.values().any(|came| *came == Came::Unanswered) || Instant::now() >= until {
            return Ok(());
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_LOOK);
    }
}

/// The error of a cancellation that no node has answered.
pub fn unanswered(what: &str) -> Error {
    Error::OutcomeUnknown(format!("{what}: the node that has it in hand does not answer").into())
}
