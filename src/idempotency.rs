//! Requests that may come twice: what one was answered is kept under the key that it came with, and the same request
//! gets the same answer. After draft-ietf-httpapi-idempotency-key-header.
//!
//! The key is stored in the transaction that makes the resource: there is none without the other, whatever dies when. An
//! answer that comes only later (a request that waits for the end of its notification) is written then; until that, or
//! until `locked_until`, the key is *in work*.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, Binary, Nullable, SmallInt, Text};
use uuid::Uuid;

use crate::clock::Clock;
use crate::db::bulk::{Bulk, Insert, Insertion, Statement, Values};
use crate::db::schema::idempotency_key;
use crate::db::types::{Id, Instant, ResourceId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::lifecycle::{Shutdown, tidy};

/// The longest key.
pub const LONGEST_KEY: usize = 255;

/// What a request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The path of what was made.
    pub location: Option<String>,
    /// The JSON body.
    pub body: String,
}

impl Answer {
    /// 201, with the resource and its path.
    ///
    /// # Errors
    /// None in practice: the resource is made of strings and numbers.
    pub fn created(location: String, resource: &impl serde::Serialize) -> Result<Self> {
        Self::new(201, Some(location), resource)
    }

    /// The answer to a dry run of the same request.
    #[must_use]
    pub fn of_dry_run(self) -> Self {
        Self { status: 200, location: None, ..self }
    }

    /// With this status.
    ///
    /// # Errors
    /// As [`Answer::created`].
    pub fn new(status: u16, location: Option<String>, body: &impl serde::Serialize) -> Result<Self> {
        let body = serde_json::to_string(body).map_err(|e| Error::Internal(e.into()))?;
        Ok(Self { status, location, body })
    }
}

/// The key that a request came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// As the caller wrote it.
    pub key: String,
    /// Of method, path and body: another request must not have the same key.
    pub fingerprint: Vec<u8>,
    /// For how long the answer is kept.
    pub keep: Duration,
}

/// How a request that makes something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// For good, and once under its key, if it has one.
    Commit(Option<Key>),
    /// Checked as if it were made; nothing is stored.
    DryRun,
}

impl Mode {
    /// The key of a request that is done for good.
    pub fn key(self) -> Option<Key> {
        match self {
            Self::Commit(key) => key,
            Self::DryRun => None,
        }
    }
}

/// A key with what is to be stored under it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The key.
    pub key: Key,
    /// What is made.
    pub resource: Uuid,
    /// What is answered, if that is known already.
    pub answer: Option<Answer>,
    /// Until when the key is in work, if it is not.
    pub locked_until: Option<Timestamp>,
}

impl Claim {
    /// Claims a key for a request whose answer is known only when it is done, in the same transaction; none without a key.
    pub fn before_answer(key: Option<Key>, resource: Uuid) -> Option<Self> {
        key.map(|key| Self { key, resource, answer: None, locked_until: None })
    }

    /// Of a request that is answered as soon as it is done; none without a key.
    pub fn of(key: Option<Key>, resource: Uuid, answer: &Answer) -> Option<Self> {
        key.map(|key| Self { key, resource, answer: Some(answer.clone()), locked_until: None })
    }
}

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This request's: it is to be done.
    Ours,
    /// An equal request's, which was answered this.
    Answered(Answer),
    /// An equal request's, which made this and did not live to be answered.
    Unanswered(Uuid),
    /// An equal request's, which is in work for so long yet.
    InWork(Duration),
    /// Another request's.
    Foreign,
}

/// What became of a request that makes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made<T> {
    /// It was made now, and this is answered.
    New(T, Answer),
    /// It was made before, and this was answered.
    Before(Answer),
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = idempotency_key)]
struct Row {
    key: String,
    fingerprint: Vec<u8>,
    resource_id: ResourceId,
    created_at: Timestamp,
    expires_at: Timestamp,
    locked_until: Option<Timestamp>,
    status: Option<i16>,
    location: Option<String>,
    body: Option<String>,
}

impl Row {
    fn new(claim: &Claim, now: Timestamp) -> Self {
        let answer = claim.answer.as_ref();
        Self {
            key: claim.key.key.clone(),
            fingerprint: claim.key.fingerprint.clone(),
            resource_id: ResourceId(claim.resource),
            created_at: now,
            expires_at: now.plus(claim.key.keep),
            locked_until: claim.locked_until,
            status: answer.and_then(|answer| i16::try_from(answer.status).ok()),
            location: answer.and_then(|answer| answer.location.clone()),
            body: answer.map(|answer| answer.body.clone()),
        }
    }

    fn verdict(self, key: &Key, now: Timestamp) -> Verdict {
        if self.fingerprint != key.fingerprint {
            return Verdict::Foreign;
        }
        match (self.status.and_then(|status| u16::try_from(status).ok()), self.body) {
            (Some(status), Some(body)) => Verdict::Answered(Answer { status, location: self.location, body }),
            _ => match self.locked_until {
                Some(until) if until > now => Verdict::InWork(until.since(now)),
                _ => Verdict::Unanswered(self.resource_id.0),
            },
        }
    }
}

/// Takes the keys of these claims, in the transaction that does what they stand for; answers whose each is. No two of
/// them have one key.
///
/// # Errors
/// Those of the database.
pub fn take(c: &mut AnyConnection, claims: &[&Claim], now: Timestamp) -> Result<Vec<Verdict>> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<Row> = claims.iter().map(|claim| Row::new(claim, now)).collect();
    // in one order, so that two transactions never wait for each other
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let ours = insert(c, &rows)?;
    rows.retain(|row| !ours.contains(&row.key));
    // nearly every key is new
    if rows.is_empty() {
        return Ok(claims.iter().map(|_| Verdict::Ours).collect());
    }
    let foreign: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
    let old = idempotency_key::table
        .filter(idempotency_key::key.eq_any(&foreign))
        .filter(idempotency_key::expires_at.le(now));
    let ours = if diesel::delete(old).execute(c)? > 0 { insert(c, &rows)? } else { HashSet::new() };
    let foreign = foreign.into_iter().filter(|key| !ours.contains(key));
    let mut known: HashMap<String, Row> = idempotency_key::table
        .filter(idempotency_key::key.eq_any(foreign))
        .select(Row::as_select())
        .load(c)?
        .into_iter()
        .map(|row: Row| (row.key.clone(), row))
        .collect();
    Ok(claims
        .iter()
        .map(|claim| known.remove(&claim.key.key).map_or(Verdict::Ours, |row| row.verdict(&claim.key, now)))
        .collect())
}

/// As [`take`], of requests that may have no key: for each whose its key is, if it is not its own. One without a key is
/// to be done.
///
/// # Errors
/// Those of the database.
pub fn take_each<'c>(
    c: &mut AnyConnection,
    claims: impl Iterator<Item = Option<&'c Claim>> + Clone,
    now: Timestamp,
) -> Result<Vec<Option<Verdict>>> {
    let mut verdicts = take(c, &claims.clone().flatten().collect::<Vec<_>>(), now)?.into_iter();
    let of_each = |claim: Option<&Claim>| {
        claim.and_then(|_| verdicts.next()).filter(|verdict| *verdict != Verdict::Ours)
    };
    Ok(claims.map(of_each).collect())
}

struct InsertKeys;

impl Statement for InsertKeys {
    const TEXT: &'static str = "INSERT INTO idempotency_key (key, fingerprint, resource_id, created_at, expires_at, \
        locked_until, status, location, body) SELECT * FROM unnest($columns) ON CONFLICT DO NOTHING RETURNING key";
    type Row = Text;
}

impl Insert for InsertKeys {
    const HEAD: &'static str = "INSERT INTO idempotency_key (key, fingerprint, resource_id, created_at, expires_at, \
        locked_until, status, location, body) VALUES (";
    const TAIL: &'static str = ") ON CONFLICT DO NOTHING";
    type Row = Row;

    fn bind<'r>(row: &'r Row, values: &mut Values<'_, 'r>) -> QueryResult<()> {
        values.bind::<Text, _>(&row.key)?;
        values.bind::<Binary, _>(&row.fingerprint)?;
        values.bind::<Id, _>(&row.resource_id)?;
        values.bind_all::<Instant, _, _>([&row.created_at, &row.expires_at])?;
        values.bind::<Nullable<Instant>, _>(&row.locked_until)?;
        values.bind::<Nullable<SmallInt>, _>(&row.status)?;
        values.bind_all::<Nullable<Text>, _, _>([&row.location, &row.body])
    }
}

/// Stores keys; answers those that were free. Where another transaction is storing one, this waits for its end.
fn insert(c: &mut AnyConnection, rows: &[Row]) -> Result<HashSet<String>> {
    match c {
        AnyConnection::Postgres(c) => {
            let columns = (
                column(rows, |r| r.key.as_str()).into_sql::<Array<Text>>(),
                column(rows, |r| r.fingerprint.as_slice()).into_sql::<Array<Binary>>(),
                column(rows, |r| r.resource_id).into_sql::<Array<Id>>(),
                column(rows, |r| r.created_at).into_sql::<Array<Instant>>(),
                column(rows, |r| r.expires_at).into_sql::<Array<Instant>>(),
                column(rows, |r| r.locked_until).into_sql::<Array<Nullable<Instant>>>(),
                column(rows, |r| r.status).into_sql::<Array<Nullable<SmallInt>>>(),
                column(rows, |r| r.location.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.body.as_deref()).into_sql::<Array<Nullable<Text>>>(),
            );
            Ok(Bulk::of(InsertKeys, columns).load::<String>(c)?.into_iter().collect())
        }
        AnyConnection::Sqlite(c) => {
            let mut stored = HashSet::new();
            for row in rows {
                if Insertion::of(InsertKeys, row).execute(c)? > 0 {
                    stored.insert(row.key.clone());
                }
            }
            Ok(stored)
        }
    }
}

/// The rows' values of one column, as an array.
fn column<'r, T>(rows: &'r [Row], value: impl Fn(&'r Row) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// Does `work`, which is answered so, under this claim, if there is one and its key is free, in one transaction.
///
/// # Errors
/// Those of the work, and [`refusal`]s.
pub fn once<T>(
    c: &mut AnyConnection,
    claim: Option<&Claim>,
    now: Timestamp,
    answer: Answer,
    work: impl FnOnce(&mut AnyConnection) -> Result<T>,
) -> Result<Made<T>> {
    if let Some(claim) = claim {
        match take(c, &[claim], now)?.pop() {
            Some(Verdict::Answered(answer)) => return Ok(Made::Before(answer)),
            Some(Verdict::Ours) | None => {}
            Some(other) => return Err(refusal(&other)),
        }
    }
    work(c).map(|made| Made::New(made, answer))
}

/// As [`once`], for work that makes its own answer; `keep` makes of that what is stored under the key.
///
/// # Errors
/// Those of the work, and [`refusal`]s.
pub fn once_answered<T>(
    c: &mut AnyConnection,
    claim: Option<&Claim>,
    now: Timestamp,
    work: impl FnOnce(&mut AnyConnection) -> Result<(T, Answer)>,
    keep: impl FnOnce(&Answer) -> Result<Answer>,
) -> Result<Made<T>> {
    let Some(claim) = claim else { return work(c).map(|(made, answer)| Made::New(made, answer)) };
    match take(c, &[claim], now)?.pop() {
        Some(Verdict::Answered(answer)) => return Ok(Made::Before(answer)),
        Some(Verdict::Ours) | None => {}
        Some(other) => return Err(refusal(&other)),
    }
    let (made, shown) = work(c)?;
    answer(c, &claim.key.key, &keep(&shown)?)?;
    Ok(Made::New(made, shown))
}

/// Makes a resource with `work`, which is answered so, in one transaction: for good, or rolled back by a dry run.
///
/// # Errors
/// Those of the work, and [`refusal`]s.
pub async fn make<T: Send + 'static>(
    db: &Db,
    (mode, resource): (Mode, Uuid),
    now: Timestamp,
    answer: Answer,
    work: impl FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
) -> Result<Made<T>> {
    match mode {
        Mode::Commit(key) => {
            let claim = Claim::of(key, resource, &answer);
            db.write(move |c| once(c, claim.as_ref(), now, answer, work)).await
        }
        Mode::DryRun => Ok(Made::New(db.rehearse(work).await?, answer.of_dry_run())),
    }
}

/// What became of an equal request before, for one that is refused: what it asks for may have been right then. Else the
/// refusal.
///
/// # Errors
/// The refusal, and those of the database.
pub async fn before(db: &Db, key: Option<Key>, refused: Error, now: Timestamp) -> Result<Verdict> {
    let (Some(key), Error::Invalid(_) | Error::Conflict(_)) = (key, &refused) else { return Err(refused) };
    let find = move |c: &mut AnyConnection| {
        let live = idempotency_key::expires_at.gt(now);
        let found = idempotency_key::table.find(&key.key).filter(live).select(Row::as_select());
        Ok(found.first(c).optional()?.map(|row: Row| row.verdict(&key, now)))
    };
    match db.read(find).await? {
        Some(Verdict::Foreign) | None => Err(refused),
        Some(known) => Ok(known),
    }
}

/// As [`before`], for a request that is answered as soon as it is done.
///
/// # Errors
/// The refusal, and those of the database.
pub async fn made_before<T>(db: &Db, key: Option<Key>, refused: Error, now: Timestamp) -> Result<Made<T>> {
    match before(db, key, refused, now).await? {
        Verdict::Answered(answer) => Ok(Made::Before(answer)),
        other => Err(refusal(&other)),
    }
}

/// What the caller is told of a key that it cannot have.
pub fn refusal(verdict: &Verdict) -> Error {
    match verdict {
        Verdict::Foreign => Error::invalid(
            "Idempotency-Key",
            "was used for another request; an equal request repeats it, a new one needs a key of its own",
        ),
        Verdict::InWork(left) => Error::InWork {
            why: "the request with this Idempotency-Key is still in work; repeat it later for its answer"
                .into(),
            retry_after: *left,
        },
        Verdict::Ours | Verdict::Answered(_) | Verdict::Unanswered(_) => {
            Error::internal("an idempotency key was refused that is free")
        }
    }
}

/// Forgets what was answered to the requests that made these resources, whose person was erased. Their keys stay taken: an
/// equal request is refused as another one. Returns how many there were.
///
/// # Errors
/// Those of the database.
pub fn forget_answers(c: &mut AnyConnection, resources: &[Uuid]) -> Result<usize> {
    let resources: Vec<ResourceId> = resources.iter().copied().map(ResourceId).collect();
    let of_them = idempotency_key::table.filter(idempotency_key::resource_id.eq_any(resources));
    let nothing = (
        idempotency_key::fingerprint.eq(Vec::<u8>::new()),
        idempotency_key::status.eq(None::<i16>),
        idempotency_key::location.eq(None::<String>),
        idempotency_key::body.eq(None::<String>),
    );
    Ok(diesel::update(of_them).set(nothing).execute(c)?)
}

/// Stores what a request was answered that was in work.
///
/// # Errors
/// Those of the database.
pub fn answer(c: &mut AnyConnection, key: &str, answer: &Answer) -> Result<()> {
    diesel::update(idempotency_key::table.find(key))
        .set((
            idempotency_key::status.eq(i16::try_from(answer.status).ok()),
            idempotency_key::location.eq(&answer.location),
            idempotency_key::body.eq(&answer.body),
            idempotency_key::locked_until.eq(None::<Timestamp>),
        ))
        .execute(c)?;
    Ok(())
}

/// Gives a key back that was taken in this transaction.
///
/// # Errors
/// Those of the database.
pub fn release(c: &mut AnyConnection, key: &str) -> Result<()> {
    diesel::delete(idempotency_key::table.find(key)).execute(c)?;
    Ok(())
}

/// Forgets up to `limit` keys whose time is over; answers how many there were.
///
/// # Errors
/// Those of the database.
pub fn forget_old(c: &mut AnyConnection, now: Timestamp, limit: i64) -> Result<usize> {
    let old: Vec<String> = idempotency_key::table
        .filter(idempotency_key::expires_at.le(now))
        .order(idempotency_key::expires_at)
        .select(idempotency_key::key)
        .limit(limit)
        .load(c)?;
    if old.is_empty() {
        return Ok(0);
    }
    Ok(diesel::delete(idempotency_key::table.filter(idempotency_key::key.eq_any(old))).execute(c)?)
}

/// Between two looks for keys whose time is over.
const SWEEP: Duration = Duration::from_secs(60);
const SWEPT_AT_ONCE: i64 = 1000;

/// Forgets keys whose time is over, until the shutdown.
pub async fn sweep(db: Db, clock: Clock, shutdown: Shutdown) {
    tidy(shutdown, SWEEP, || async {
        let now = clock.now();
        match db.write(move |c| forget_old(c, now, SWEPT_AT_ONCE)).await {
            Ok(count) => i64::try_from(count).is_ok_and(|count| count == SWEPT_AT_ONCE),
            Err(error) => {
                tracing::warn!(%error, "old idempotency keys could not be forgotten; trying again");
                false
            }
        }
    })
    .await;
}
