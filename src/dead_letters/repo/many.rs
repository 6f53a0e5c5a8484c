//! Replays by filter. Each step is a transaction that reads the next dead letters, replays them, and moves the cursor.

use std::collections::{BTreeMap, HashSet};

use diesel::prelude::*;

use super::one::{self, ReplayOutcome};
use super::{DeadLetterOrder, list};
use crate::db::AnyConnection;
use crate::db::schema::replay;
use crate::db::types::{MessageId, NodeId, ReplayId, Timestamp};
use crate::dead_letters::model::{
    DeadLetter, DeadLetterPosition, LetterFilter, LetterKind, Refusal, Replay, ReplayStatus,
};
use crate::error::{Error, Result};
use crate::messages::repo::replayed;

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = replay)]
struct Row {
    id: ReplayId,
    filter: String,
    rate_per_second: f64,
    status: i16,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
    cursor_at: Option<Timestamp>,
    cursor_id: Option<MessageId>,
    replayed: i64,
    refused: String,
    taken_by: Option<NodeId>,
    taken_until: Option<Timestamp>,
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Internal(e.into()))
}

impl Row {
    fn into_model(self) -> Result<Replay> {
        let internal = |e: serde_json::Error| Error::Internal(e.into());
        let refusals: BTreeMap<Refusal, i64> = serde_json::from_str(&self.refused).map_err(internal)?;
        Ok(Replay {
            id: self.id,
            status: ReplayStatus::from_code(self.status)?,
            filter: serde_json::from_str(&self.filter).map_err(internal)?,
            rate_per_second: self.rate_per_second,
            replayed: self.replayed,
            refused: refusals.values().sum(),
            refusals,
            created_at: self.created_at,
            finished_at: self.finished_at,
        })
    }
}

/// Stores a replay.
///
/// # Errors
/// Database errors.
pub fn insert(c: &mut AnyConnection, new: &Replay) -> Result<()> {
    let row = Row {
        id: new.id,
        filter: json(&new.filter)?,
        rate_per_second: new.rate_per_second,
        status: new.status.code(),
        created_at: new.created_at,
        finished_at: None,
        cursor_at: None,
        cursor_id: None,
        replayed: 0,
        refused: json(&new.refusals)?,
        taken_by: None,
        taken_until: None,
    };
    diesel::insert_into(replay::table).values(&row).execute(c)?;
    Ok(())
}

/// Returns the replay with this id.
///
/// # Errors
/// [`Error::NotFound`].
pub fn get(c: &mut AnyConnection, id: ReplayId) -> Result<Replay> {
    let row: Option<Row> = replay::table.find(id).select(Row::as_select()).first(c).optional()?;
    row.ok_or_else(|| Error::not_found("replay", id))?.into_model()
}

/// Returns up to `limit` replays older than `before`, the newest first.
///
/// # Errors
/// Database errors.
pub fn newest(c: &mut AnyConnection, before: Option<ReplayId>, limit: i64) -> Result<Vec<Replay>> {
    let mut query = replay::table.select(Row::as_select()).order(replay::id.desc()).limit(limit).into_boxed();
    if let Some(before) = before {
        query = query.filter(replay::id.lt(before));
    }
    let rows: Vec<Row> = query.load(c)?;
    rows.into_iter().map(Row::into_model).collect()
}

/// Returns the running replays with their rates.
///
/// # Errors
/// Database errors.
pub fn running(c: &mut AnyConnection) -> Result<Vec<(ReplayId, f64)>> {
    let running = replay::table.filter(replay::status.eq(ReplayStatus::Running.code())).order(replay::id);
    Ok(running.select((replay::id, replay::rate_per_second)).load(c)?)
}

/// Cancels a running replay. Returns false if it was not running.
///
/// # Errors
/// Database errors.
pub fn cancel(c: &mut AnyConnection, id: ReplayId, now: Timestamp) -> Result<bool> {
    let running = replay::table.find(id).filter(replay::status.eq(ReplayStatus::Running.code()));
    let cancelled = diesel::update(running)
        .set((replay::status.eq(ReplayStatus::Cancelled.code()), replay::finished_at.eq(Some(now))))
        .execute(c)?;
    Ok(cancelled > 0)
}

/// The claim of a node on a replay, for one step and the time until the next.
#[derive(Debug, Clone, Copy)]
pub struct ReplayTurn {
    /// The replay.
    pub id: ReplayId,
    /// The node that claims it.
    pub node: NodeId,
    /// The time until which no other node may claim it.
    pub until: Timestamp,
}

/// The result of a step.
#[derive(Debug)]
pub enum ReplayStep {
    /// The replay has ended, or another node has claimed it.
    NotOurs,
    /// The step processed dead letters of messages.
    Did(ReplayOutcome),
    /// The next dead letter is an event, which the caller replays outside this transaction.
    Event(DeadLetter),
    /// The step processed the last dead letters, and the replay is finished.
    Finished(ReplayOutcome),
}

/// Locks the replay until the transaction ends, and returns it unless another node has claimed it.
fn take(c: &mut AnyConnection, turn: ReplayTurn, now: Timestamp) -> Result<Option<Row>> {
    // a macro, since the query has a different type for each database
    macro_rules! running {
        () => {
            replay::table
                .find(turn.id)
                .filter(replay::status.eq(ReplayStatus::Running.code()))
                .select(Row::as_select())
        };
    }
    let row: Option<Row> = match c {
        AnyConnection::Postgres(c) => running!().for_update().first(c).optional()?,
        // SQLite has one node: an existing claim is from before a restart
        AnyConnection::Sqlite(c) => return Ok(running!().first(c).optional()?),
    };
    let is_free = |row: &Row| {
        row.taken_by.is_none_or(|by| by == turn.node) || row.taken_until.is_none_or(|until| until <= now)
    };
    Ok(row.filter(is_free))
}

/// Executes one step of a replay: up to `limit` of its dead letters, the oldest failure first. The step is one
/// transaction, so that a crash neither repeats nor skips a dead letter.
///
/// # Errors
/// Database errors.
pub fn step(c: &mut AnyConnection, turn: ReplayTurn, limit: i64, now: Timestamp) -> Result<ReplayStep> {
    let Some(row) = take(c, turn, now)? else { return Ok(ReplayStep::NotOurs) };
    let mut letters = next(c, &row, limit)?;
    let is_last = i64::try_from(letters.len()).unwrap_or(i64::MAX) < limit;
    let messages = letters.iter().take_while(|letter| letter.kind == LetterKind::Message).count();
    if let (0, Some(_)) = (messages, letters.first()) {
        return Ok(ReplayStep::Event(letters.swap_remove(0)));
    }
    let is_last = is_last && messages == letters.len();
    letters.truncate(messages);
    let place = letters.last().map(DeadLetter::place);
    // a message that failed again is excluded by its time, unless the clock jumped: this replay's notes exclude it too
    let ids: Vec<MessageId> = letters.iter().map(|letter| letter.id).collect();
    let noted = replayed::of_each(c, &ids)?;
    let again: HashSet<MessageId> =
        noted.iter().filter(|note| note.replay_id == Some(turn.id)).map(|note| note.message_id).collect();
    letters.retain(|letter| !again.contains(&letter.id));
    let done = one::replay(c, &letters, Some(turn.id), now)?;
    let refused = done.refused.iter().map(|(_, why)| *why);
    advance(c, turn, &row, place, (done.replayed.len(), refused), is_last.then_some(now))?;
    Ok(if is_last { ReplayStep::Finished(done) } else { ReplayStep::Did(done) })
}

/// Moves the cursor past the dead letter of an event, and deletes it if the event was accepted. Returns false if this
/// node has no claim on the replay.
///
/// # Errors
/// Database errors.
pub fn step_event(
    c: &mut AnyConnection,
    turn: ReplayTurn,
    (letter, is_taken): (&DeadLetter, bool),
    now: Timestamp,
) -> Result<bool> {
    let Some(row) = take(c, turn, now)? else { return Ok(false) };
    let counted = if is_taken { usize::from(super::forget_event(c, letter.id)?) } else { 0 };
    let refused = (!is_taken).then_some(Refusal::Event).into_iter();
    advance(c, turn, &row, Some(letter.place()), (counted, refused), None)?;
    Ok(true)
}

fn next(c: &mut AnyConnection, row: &Row, limit: i64) -> Result<Vec<DeadLetter>> {
    let mut filter: LetterFilter =
        serde_json::from_str(&row.filter).map_err(|e| Error::Internal(e.into()))?;
    // failures after its creation are not part of it
    let before = filter.failed_before.map_or(row.created_at, |before| before.min(row.created_at));
    filter.failed_before = Some(before);
    let after = row.cursor_at.zip(row.cursor_id).map(|(at, id)| DeadLetterPosition { at, id });
    list(c, &filter, (DeadLetterOrder::OldestFirst, after), limit)
}

fn advance(
    c: &mut AnyConnection,
    turn: ReplayTurn,
    row: &Row,
    place: Option<DeadLetterPosition>,
    (count, refused): (usize, impl Iterator<Item = Refusal>),
    finished_at: Option<Timestamp>,
) -> Result<()> {
    let mut refusals: BTreeMap<Refusal, i64> =
        serde_json::from_str(&row.refused).map_err(|e| Error::Internal(e.into()))?;
    refused.for_each(|why| *refusals.entry(why).or_default() += 1);
    let status = if finished_at.is_some() { ReplayStatus::Finished } else { ReplayStatus::Running };
    diesel::update(replay::table.find(turn.id))
        .set((
            replay::status.eq(status.code()),
            replay::finished_at.eq(finished_at),
            replay::cursor_at.eq(place.map(|place| place.at).or(row.cursor_at)),
            replay::cursor_id.eq(place.map(|place| place.id).or(row.cursor_id)),
            replay::replayed.eq(row.replayed + i64::try_from(count).unwrap_or(i64::MAX)),
            replay::refused.eq(json(&refusals)?),
            replay::taken_by.eq(Some(turn.node)),
            replay::taken_until.eq(Some(turn.until)),
        ))
        .execute(c)?;
    Ok(())
}
