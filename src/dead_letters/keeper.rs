//! The keeper closes dead letters after their retention, and counts the open ones.

use std::time::Duration;

use super::model::{Closed, DeadLetter, LetterFilter};
use super::repo::{self, DeadLetterOrder};
use crate::clock::Clock;
use crate::db::types::MessageId;
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::lifecycle::{Shutdown, run_periodically};
use crate::runtime::Runtime;

/// The interval of the checks.
const LOOK: Duration = Duration::from_secs(15);
const CLOSED_AT_ONCE: i64 = 1000;

/// Closes up to a thousand dead letters that failed more than `keep` ago. Returns the number of closed dead letters.
///
/// # Errors
/// Database errors.
pub async fn close_old(db: &Db, clock: &Clock, keep: Duration) -> Result<usize> {
    let now = clock.now();
    let filter = LetterFilter { failed_before: Some(now.minus(keep)), ..LetterFilter::default() };
    let work = move |c: &mut AnyConnection| {
        let old = repo::list(c, &filter, (DeadLetterOrder::OldestFirst, None), CLOSED_AT_ONCE)?;
        if old.is_empty() {
            return Ok(0);
        }
        let ids: Vec<MessageId> = old.iter().map(|letter: &DeadLetter| letter.id).collect();
        repo::close(c, &ids, Closed::Expired, now)
    };
    // a read first, since usually no dead letter is old enough and closing is a write
    let first = LetterFilter { failed_before: Some(now.minus(keep)), ..LetterFilter::default() };
    if db.read(move |c| repo::list(c, &first, (DeadLetterOrder::OldestFirst, None), 1)).await?.is_empty() {
        return Ok(0);
    }
    db.write(work).await
}

/// Closes dead letters that are older than `keep`, and updates the gauge of open ones, until the shutdown.
pub async fn keep(Runtime { db, clock, metrics, .. }: Runtime, keep: Duration, shutdown: Shutdown) {
    run_periodically(shutdown, LOOK, || async {
        match close_old(&db, &clock, keep).await {
            Ok(count) if count > 0 => {
                metrics.closed_letters(Closed::Expired.as_str(), u64::try_from(count).unwrap_or(u64::MAX));
                return i64::try_from(count).is_ok_and(|count| count == CLOSED_AT_ONCE);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "old dead letters could not be closed; trying again"),
        }
        match db.read(repo::count).await {
            Ok(count) => metrics.dead_letters_open.set(count),
            Err(error) => tracing::warn!(%error, "dead letters could not be counted; trying again"),
        }
        false
    })
    .await;
}
