//! The use cases of dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::model::{
    Closed, DeadEvent, DeadLetter, DeadLetterDetails, DeadLetterPosition, DroppedLetters, LetterFilter,
    LetterKind, NewDeadEvent, Refusal, Replay, ReplayOfOne, ReplayStatus, ReplayedLetter,
};
use super::repo::{self, DeadLetterOrder, many, one};
use crate::clock::Clock;
use crate::db::types::{MessageId, ReplayId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::idempotency::{self, Created, IdempotentResponse, Mode};
use crate::live::Live;
use crate::mailings::usecase::Wakeup;
use crate::messages;
use crate::messages::model::MessageWithAttempts;
use crate::metrics::Metrics;
use crate::notifications::notifier::NewMessageNotifier;
use crate::paging;
use crate::runtime::Runtime;

/// The most dead letters that are dropped in one transaction.
const DROPPED_AT_ONCE: i64 = 1000;

/// Accepts events that were refused before.
pub trait AcceptEvent: Send + Sync {
    /// Accepts an event. A process that crashed before it deleted the dead letter may already have accepted it.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::Invalid`] if it is refused again; its dead letter remains.
    fn take(&self, event: DeadEvent) -> BoxFuture<'static, Result<()>>;
}

/// Stores an event that could not be accepted as a dead letter, once. Returns after the commit.
///
/// # Errors
/// Database errors.
pub async fn store_event(db: &Db, event: NewDeadEvent, now: Timestamp) -> Result<()> {
    db.write(move |c| repo::bury_event(c, &event, now)).await.map(drop)
}

/// Notifies the other parts of the service of replayed messages.
#[derive(Clone)]
pub struct ReplayNotifiers {
    /// Notified of mailings that run again.
    pub wakeup: Arc<dyn Wakeup>,
    /// Notified of due messages.
    pub arrivals: Arc<dyn NewMessageNotifier>,
    /// Publishes the status changes of notifications.
    pub live: Live,
    /// Counts replays.
    pub metrics: Metrics,
}

impl ReplayNotifiers {
    /// Publishes the result of a replay; called after its commit.
    pub fn of(&self, done: &one::ReplayOutcome) {
        if done.replayed.is_empty() {
            return;
        }
        for (_, channel) in &done.replayed {
            self.metrics.dead_letter_replays.with_label_values(&[channel.as_str()]).inc();
        }
        done.changes.iter().for_each(|change| self.live.publish(change, false));
        if done.has_mailings {
            self.wakeup.mailing_changed();
        }
        self.arrivals.arrived();
    }
}

/// The dead letters of one database.
#[derive(Clone)]
pub struct DeadLetters {
    db: Db,
    clock: Clock,
    told: ReplayNotifiers,
    events: Arc<dyn AcceptEvent>,
    /// Wakes the replayer of this node, if it has one.
    replayer: Arc<Notify>,
    /// The default rate of a replay by filter, in dead letters per second.
    rate: f64,
}

impl DeadLetters {
    /// Creates the service. `replayer` is woken for each new replay by filter, whose default rate is `rate`.
    pub fn new(
        Runtime { db, clock, .. }: Runtime,
        told: ReplayNotifiers,
        events: Arc<dyn AcceptEvent>,
        (replayer, rate): (Arc<Notify>, f64),
    ) -> Self {
        Self { db, clock, told, events, replayer, rate }
    }

    /// Returns a page of the open dead letters that match `filter`, the newest failure first, and the cursor of the
    /// next page.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list(
        &self,
        filter: LetterFilter,
        after: Option<DeadLetterPosition>,
        limit: i64,
    ) -> Result<(Vec<DeadLetter>, Option<DeadLetterPosition>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&DeadLetterPosition>, count| {
                repo::list(c, &filter, (DeadLetterOrder::NewestFirst, after.copied()), count)
            };
            paging::page_of(limit, after, part, DeadLetter::place)
        };
        self.db.read(read).await
    }

    /// Returns an open dead letter with its message or event, and its replays.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: MessageId) -> Result<DeadLetterDetails> {
        let read =
            move |c: &mut AnyConnection| {
                let letter = repo::find(c, id)?.ok_or_else(|| Error::not_found("dead letter", id))?;
                let (message, event) = match letter.kind {
                    LetterKind::Message => (message(c, id)?, None),
                    LetterKind::Event => (None, repo::find_event(c, id)?),
                };
                let replays = messages::repo::replayed::of_message(c, id)?
                    .into_iter()
                    .map(|row| ReplayOfOne { at: row.at, attempts: row.attempts, replay_id: row.replay_id });
                Ok(DeadLetterDetails { letter, message, event, replays: replays.collect() })
            };
        self.db.read(read).await
    }

    /// Replays a dead letter: its message is queued again under the same id, or its event is accepted.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it cannot be replayed, or was replayed before; [`Error::NotFound`].
    pub async fn replay(&self, id: MessageId) -> Result<ReplayedLetter> {
        let now = self.clock.now();
        let work = move |c: &mut AnyConnection| {
            let Some(letter) = repo::find(c, id)? else { return Err(over(c, id)?) };
            if letter.kind == LetterKind::Event {
                return Ok(Replayed::Event(repo::find_event(c, id)?));
            }
            let done = one::replay(c, &[letter], None, now)?;
            if let Some((_, why)) = done.refused.first() {
                return Err(refused(id, *why));
            }
            if done.replayed.is_empty() {
                return Err(over(c, id)?);
            }
            Ok(Replayed::Message(done, message(c, id)?))
        };
        match self.db.write(work).await? {
            Replayed::Message(done, message) => {
                self.told.of(&done);
                Ok(ReplayedLetter { id, kind: LetterKind::Message, message })
            }
            Replayed::Event(event) => {
                let event = event.ok_or_else(|| Error::internal("a dead letter has no event"))?;
                self.events.take(event).await.map_err(|why| match why {
                    Error::Invalid(_) => {
                        Error::Conflict(format!("dead letter {id} cannot be replayed: {why}"))
                    }
                    other => other,
                })?;
                self.db.write(move |c| repo::forget_event(c, id)).await?;
                Ok(ReplayedLetter { id, kind: LetterKind::Event, message: None })
            }
        }
    }

    /// Drops a dead letter: it can no longer be replayed, and its message stays *failed*.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no open dead letter with this id.
    pub async fn drop_one(&self, id: MessageId) -> Result<()> {
        let now = self.clock.now();
        match self.db.write(move |c| repo::close(c, &[id], Closed::Dropped, now)).await? {
            0 => Err(Error::not_found("dead letter", id)),
            _ => {
                self.told.metrics.closed_letters(Closed::Dropped.as_str(), 1);
                Ok(())
            }
        }
    }

    /// Drops the dead letters that match `filter` and exist now.
    ///
    /// # Errors
    /// Database errors: then a part of them may be dropped.
    pub async fn drop_all(&self, mut filter: LetterFilter, is_dry_run: bool) -> Result<DroppedLetters> {
        let now = self.clock.now();
        filter.failed_before = Some(filter.failed_before.map_or(now, |before| before.min(now)));
        let (mut after, mut dropped) = (None, 0);
        loop {
            let filter = filter.clone();
            let step = move |c: &mut AnyConnection| {
                let letters = repo::list(c, &filter, (DeadLetterOrder::OldestFirst, after), DROPPED_AT_ONCE)?;
                let ids: Vec<MessageId> = letters.iter().map(|letter| letter.id).collect();
                let closed = repo::close(c, &ids, Closed::Dropped, now)?;
                Ok((
                    i64::try_from(closed).unwrap_or(i64::MAX),
                    letters.len(),
                    letters.last().map(DeadLetter::place),
                ))
            };
            let (closed, seen, place) =
                if is_dry_run { self.db.rehearse(step).await? } else { self.db.write(step).await? };
            if !is_dry_run {
                let count = u64::try_from(closed).unwrap_or_default();
                self.told.metrics.closed_letters(Closed::Dropped.as_str(), count);
            }
            dropped += closed;
            if i64::try_from(seen).unwrap_or(i64::MAX) < DROPPED_AT_ONCE {
                return Ok(DroppedLetters { dropped });
            }
            after = place;
        }
    }

    /// Creates a replay of the dead letters that match `filter`. `answer` builds the response to the caller.
    ///
    /// # Errors
    /// The errors of its key.
    pub async fn create_replay(
        &self,
        filter: LetterFilter,
        rate_per_second: Option<f64>,
        mode: Mode,
        answer: impl FnOnce(&Replay) -> Result<IdempotentResponse>,
    ) -> Result<Created<Replay>> {
        let now = self.clock.now();
        let replay = Replay {
            id: ReplayId::new(),
            status: ReplayStatus::Running,
            filter,
            rate_per_second: rate_per_second.unwrap_or(self.rate),
            replayed: 0,
            refused: 0,
            refusals: BTreeMap::new(),
            created_at: now,
            finished_at: None,
        };
        let answer = answer(&replay)?;
        let id = replay.id.0;
        let insert = move |c: &mut AnyConnection| {
            many::insert(c, &replay)?;
            Ok(replay)
        };
        let made = idempotency::create(&self.db, (mode, id), now, answer, insert).await?;
        self.replayer.notify_one();
        Ok(made)
    }

    /// Returns the replay with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get_replay(&self, id: ReplayId) -> Result<Replay> {
        self.db.read(move |c| many::get(c, id)).await
    }

    /// Returns a page of the replays, the newest first, and the cursor of the next page.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list_replays(
        &self,
        before: Option<ReplayId>,
        limit: i64,
    ) -> Result<(Vec<Replay>, Option<ReplayId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |before: Option<&ReplayId>, count| many::newest(c, before.copied(), count);
            paging::page_of(limit, before, part, |replay| replay.id)
        };
        self.db.read(read).await
    }

    /// Cancels a replay. The messages that it replayed are unaffected.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it has ended, [`Error::NotFound`].
    pub async fn cancel_replay(&self, id: ReplayId) -> Result<Replay> {
        let now = self.clock.now();
        let work = move |c: &mut AnyConnection| {
            let is_cancelled = many::cancel(c, id, now)?;
            let replay = many::get(c, id)?;
            if is_cancelled {
                Ok(replay)
            } else {
                Err(Error::Conflict(format!("replay {id} is {} and cannot be cancelled", replay.status)))
            }
        };
        self.db.write(work).await
    }
}

/// The result of replaying one dead letter.
enum Replayed {
    /// A message, which is queued again.
    Message(one::ReplayOutcome, Option<MessageWithAttempts>),
    /// An event, which is to be accepted.
    Event(Option<DeadEvent>),
}

fn message(c: &mut AnyConnection, id: MessageId) -> Result<Option<MessageWithAttempts>> {
    let found = messages::repo::get(c, id)?;
    Ok(found.map(|(message, attempts)| MessageWithAttempts::new(message, attempts)))
}

fn refused(id: MessageId, why: Refusal) -> Error {
    Error::Conflict(format!("dead letter {id} cannot be replayed: {}", why.why()))
}

/// Returns the error of a replay without an open dead letter.
fn over(c: &mut AnyConnection, id: MessageId) -> Result<Error> {
    if let Some(closed) = repo::closed(c, id)? {
        let why = match closed {
            Closed::Dropped => "it was dropped",
            Closed::Expired => "its retention has ended",
        };
        return Ok(Error::Conflict(format!("dead letter {id} cannot be replayed: {why}")));
    }
    Ok(match messages::repo::get(c, id)? {
        Some((message, _)) => Error::Conflict(format!(
            "message {id} is {} and cannot be replayed: it did not fail, or was replayed already",
            message.status
        )),
        None => Error::not_found("dead letter", id),
    })
}
