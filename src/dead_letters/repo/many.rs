//! Replays of many: each step of one is a transaction that reads the next letters, replays them, and moves on.

use std::collections::{BTreeMap, HashSet};

use diesel::prelude::*;

use super::one::{self, Done};
use super::{Order, list};
use crate::db::AnyConnection;
use crate::db::schema::replay;
use crate::db::types::{MessageId, NodeId, ReplayId, Timestamp};
use crate::dead_letters::model::{
    DeadLetter, LetterFilter, LetterKind, Place, Refusal, Replay, ReplayStatus,
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
/// Those of the database.
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

/// One replay.
///
/// # Errors
/// [`Error::NotFound`].
pub fn get(c: &mut AnyConnection, id: ReplayId) -> Result<Replay> {
    let row: Option<Row> = replay::table.find(id).select(Row::as_select()).first(c).optional()?;
    row.ok_or_else(|| Error::not_found("replay", id))?.into_model()
}

/// Up to `limit` replays before this one, the newest first.
///
/// # Errors
/// Those of the database.
pub fn newest(c: &mut AnyConnection, before: Option<ReplayId>, limit: i64) -> Result<Vec<Replay>> {
    let mut query = replay::table.select(Row::as_select()).order(replay::id.desc()).limit(limit).into_boxed();
    if let Some(before) = before {
        query = query.filter(replay::id.lt(before));
    }
    let rows: Vec<Row> = query.load(c)?;
    rows.into_iter().map(Row::into_model).collect()
}

/// The replays that are running, each with its rate.
///
/// # Errors
/// Those of the database.
pub fn running(c: &mut AnyConnection) -> Result<Vec<(ReplayId, f64)>> {
    let running = replay::table.filter(replay::status.eq(ReplayStatus::Running.code())).order(replay::id);
    Ok(running.select((replay::id, replay::rate_per_second)).load(c)?)
}

/// Stops a replay that is running; answers whether it was.
///
/// # Errors
/// Those of the database.
pub fn cancel(c: &mut AnyConnection, id: ReplayId, now: Timestamp) -> Result<bool> {
    let running = replay::table.find(id).filter(replay::status.eq(ReplayStatus::Running.code()));
    let cancelled = diesel::update(running)
        .set((replay::status.eq(ReplayStatus::Cancelled.code()), replay::finished_at.eq(Some(now))))
        .execute(c)?;
    Ok(cancelled > 0)
}

/// Who is at a replay.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// The replay.
    pub id: ReplayId,
    /// The node.
    pub node: NodeId,
    /// Until when no other node is.
    pub until: Timestamp,
}

/// What a step came to.
#[derive(Debug)]
pub enum Step {
    /// It is over, or another node is at it.
    NotOurs,
    /// So many letters were looked at.
    Did(Done),
    /// The next one is of an event, which is not replayed in here.
    Event(DeadLetter),
    /// That was the last.
    Finished(Done),
}

/// The replay, held until the transaction ends, if it is this node's turn.
fn take(c: &mut AnyConnection, turn: Turn, now: Timestamp) -> Result<Option<Row>> {
    // a macro: what is selected has another type for each database
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
        // there is no other node: what is taken was so before a restart
        AnyConnection::Sqlite(c) => return Ok(running!().first(c).optional()?),
    };
    let is_free = |row: &Row| {
        row.taken_by.is_none_or(|by| by == turn.node) || row.taken_until.is_none_or(|until| until <= now)
    };
    Ok(row.filter(is_free))
}

/// One step of a replay: up to `limit` of its letters, the first failure first. All of it is one transaction, so that
/// whenever the process dies, no letter is replayed twice or left out.
///
/// # Errors
/// Those of the database.
pub fn step(c: &mut AnyConnection, turn: Turn, limit: i64, now: Timestamp) -> Result<Step> {
    let Some(row) = take(c, turn, now)? else { return Ok(Step::NotOurs) };
    let mut letters = next(c, &row, limit)?;
    let is_last = i64::try_from(letters.len()).unwrap_or(i64::MAX) < limit;
    let messages = letters.iter().take_while(|letter| letter.kind == LetterKind::Message).count();
    if let (0, Some(_)) = (messages, letters.first()) {
        return Ok(Step::Event(letters.swap_remove(0)));
    }
    let is_last = is_last && messages == letters.len();
    letters.truncate(messages);
    let place = letters.last().map(DeadLetter::place);
    // one that failed again stands behind, by a clock that jumped perhaps not
    let ids: Vec<MessageId> = letters.iter().map(|letter| letter.id).collect();
    let noted = replayed::of_each(c, &ids)?;
    let again: HashSet<MessageId> =
        noted.iter().filter(|note| note.replay_id == Some(turn.id)).map(|note| note.message_id).collect();
    letters.retain(|letter| !again.contains(&letter.id));
    let done = one::replay(c, &letters, Some(turn.id), now)?;
    let refused = done.refused.iter().map(|(_, why)| *why);
    advance(c, turn, &row, place, (done.replayed.len(), refused), is_last.then_some(now))?;
    Ok(if is_last { Step::Finished(done) } else { Step::Did(done) })
}

/// Moves on beyond the letter of an event, which was taken or could not be. Answers whether it was this node's turn.
///
/// # Errors
/// Those of the database.
pub fn step_event(
    c: &mut AnyConnection,
    turn: Turn,
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
    // what fails again is no part of it
    let before = filter.failed_before.map_or(row.created_at, |before| before.min(row.created_at));
    filter.failed_before = Some(before);
    let after = row.cursor_at.zip(row.cursor_id).map(|(at, id)| Place { at, id });
    list(c, &filter, (Order::OldestFirst, after), limit)
}

fn advance(
    c: &mut AnyConnection,
    turn: Turn,
    row: &Row,
    place: Option<Place>,
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
