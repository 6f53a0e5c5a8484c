//! Idempotency keys: the response to a request is stored under its key, and a repeat of the request gets the same
//! response. After draft-ietf-httpapi-idempotency-key-header.
//!
//! The key is stored in the transaction that creates the resource, so that a crash cannot leave one without the other.
//! A response that comes later (to a request that waits for the end of its notification) is written then; until that,
//! or until `locked_until`, the key is *in work*.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use diesel::prelude::*;
use uuid::Uuid;

use crate::clock::Clock;
use crate::db::bulk::table_row;
use crate::db::schema::idempotency_key;
use crate::db::types::{ResourceId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::lifecycle::{Shutdown, run_periodically};

/// The longest key.
pub const LONGEST_KEY: usize = 255;

/// The stored response to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotentResponse {
    /// The HTTP status.
    pub status: u16,
    /// The path of the created resource.
    pub location: Option<String>,
    /// The JSON body.
    pub body: String,
}

impl IdempotentResponse {
    /// Creates a 201 response with the resource and its path.
    ///
    /// # Errors
    /// The resource cannot be serialized, which does not happen in practice: it consists of strings and numbers.
    pub fn created(location: String, resource: &impl serde::Serialize) -> Result<Self> {
        Self::new(201, Some(location), resource)
    }

    /// Converts it to the response to a dry run of the same request.
    #[must_use]
    pub fn of_dry_run(self) -> Self {
        Self { status: 200, location: None, ..self }
    }

    /// Creates a response with this status.
    ///
    /// # Errors
    /// As for [`IdempotentResponse::created`].
    pub fn new(status: u16, location: Option<String>, body: &impl serde::Serialize) -> Result<Self> {
        let body = serde_json::to_string(body).map_err(|e| Error::Internal(e.into()))?;
        Ok(Self { status, location, body })
    }
}

/// The idempotency key of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key as the caller wrote it.
    pub key: String,
    /// A hash of method, path and body: a different request must not use the same key.
    pub fingerprint: Vec<u8>,
    /// The time for which the response is stored.
    pub keep: Duration,
}

/// The mode of a request that creates a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Creates the resource, once per key if there is one.
    Commit(Option<IdempotencyKey>),
    /// Validates the request, and stores nothing.
    DryRun,
}

impl Mode {
    /// Returns the key of a request that is committed.
    pub fn key(self) -> Option<IdempotencyKey> {
        match self {
            Self::Commit(key) => key,
            Self::DryRun => None,
        }
    }
}

/// A claim of a key, with the values to store under it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The key.
    pub key: IdempotencyKey,
    /// The id of the created resource.
    pub resource: Uuid,
    /// The response, if it is known already.
    pub answer: Option<IdempotentResponse>,
    /// The time until which the key is in work, if the response is not known.
    pub locked_until: Option<Timestamp>,
}

impl Claim {
    /// Creates a claim for a request whose response is written later in the same transaction. Returns `None` without a
    /// key.
    pub fn before_answer(key: Option<IdempotencyKey>, resource: Uuid) -> Option<Self> {
        key.map(|key| Self { key, resource, answer: None, locked_until: None })
    }

    /// Creates a claim for a request whose response is known already. Returns `None` without a key.
    pub fn of(key: Option<IdempotencyKey>, resource: Uuid, answer: &IdempotentResponse) -> Option<Self> {
        key.map(|key| Self { key, resource, answer: Some(answer.clone()), locked_until: None })
    }
}

/// The result of claiming an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimResult {
    /// The key is new: this request has to be processed.
    New,
    /// The key belongs to the same request, which got this response.
    Answered(IdempotentResponse),
    /// The key belongs to the same request, which created this resource and died before its response.
    Unanswered(Uuid),
    /// The key belongs to the same request, which stays in work for at most this time.
    InWork(Duration),
    /// The key belongs to a different request.
    OtherRequest,
}

/// The result of a request that creates a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created<T> {
    /// The resource was created now, with this response.
    New(T, IdempotentResponse),
    /// The resource was created before, with this response.
    Before(IdempotentResponse),
}

table_row! {
    #[derive(Debug, Queryable, Selectable)]
    #[diesel(table_name = idempotency_key)]
    struct Row in idempotency_key {
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
    insert InsertKeys "ON CONFLICT DO NOTHING" returning key: String
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

    fn verdict(self, key: &IdempotencyKey, now: Timestamp) -> ClaimResult {
        if self.fingerprint != key.fingerprint {
            return ClaimResult::OtherRequest;
        }
        match (self.status.and_then(|status| u16::try_from(status).ok()), self.body) {
            (Some(status), Some(body)) => {
                ClaimResult::Answered(IdempotentResponse { status, location: self.location, body })
            }
            _ => match self.locked_until {
                Some(until) if until > now => ClaimResult::InWork(until.since(now)),
                _ => ClaimResult::Unanswered(self.resource_id.0),
            },
        }
    }
}

/// Claims these keys, in the transaction that processes their requests, and returns the result of each claim. The keys
/// must be distinct.
///
/// # Errors
/// Database errors.
pub fn take(c: &mut AnyConnection, claims: &[&Claim], now: Timestamp) -> Result<Vec<ClaimResult>> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<Row> = claims.iter().map(|claim| Row::new(claim, now)).collect();
    // in one order, so that two transactions never deadlock
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let ours = insert(c, &rows)?;
    rows.retain(|row| !ours.contains(&row.key));
    // nearly every key is new
    if rows.is_empty() {
        return Ok(claims.iter().map(|_| ClaimResult::New).collect());
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
        .map(|claim| {
            known.remove(&claim.key.key).map_or(ClaimResult::New, |row| row.verdict(&claim.key, now))
        })
        .collect())
}

/// Claims keys like [`take`], for requests that may have no key. Returns the result of each claim, or `None` if the
/// request has to be processed, because its key is new or it has no key.
///
/// # Errors
/// Database errors.
pub fn claim_each<'c>(
    c: &mut AnyConnection,
    claims: impl Iterator<Item = Option<&'c Claim>> + Clone,
    now: Timestamp,
) -> Result<Vec<Option<ClaimResult>>> {
    let mut verdicts = take(c, &claims.clone().flatten().collect::<Vec<_>>(), now)?.into_iter();
    let of_each = |claim: Option<&Claim>| {
        claim.and_then(|_| verdicts.next()).filter(|verdict| *verdict != ClaimResult::New)
    };
    Ok(claims.map(of_each).collect())
}

/// Stores keys, and returns the free ones. It waits for other transactions that are storing the same keys.
fn insert(c: &mut AnyConnection, rows: &[Row]) -> Result<HashSet<String>> {
    Ok(InsertKeys::insert(c, rows)?.into_iter().collect())
}

/// Does `work`, whose response is `answer`, in one transaction with the claim of its key, if there is one. A key that
/// was used before returns the stored response instead.
///
/// # Errors
/// The errors of the work, and [`refusal`]s.
pub fn once<T>(
    c: &mut AnyConnection,
    claim: Option<&Claim>,
    now: Timestamp,
    answer: IdempotentResponse,
    work: impl FnOnce(&mut AnyConnection) -> Result<T>,
) -> Result<Created<T>> {
    if let Some(claim) = claim {
        match take(c, &[claim], now)?.pop() {
            Some(ClaimResult::Answered(answer)) => return Ok(Created::Before(answer)),
            Some(ClaimResult::New) | None => {}
            Some(other) => return Err(refusal(&other)),
        }
    }
    work(c).map(|made| Created::New(made, answer))
}

/// Does `work` like [`once`], for work that creates its own response. `keep` converts the response to the form stored
/// under the key.
///
/// # Errors
/// The errors of the work, and [`refusal`]s.
pub fn once_answered<T>(
    c: &mut AnyConnection,
    claim: Option<&Claim>,
    now: Timestamp,
    work: impl FnOnce(&mut AnyConnection) -> Result<(T, IdempotentResponse)>,
    keep: impl FnOnce(&IdempotentResponse) -> Result<IdempotentResponse>,
) -> Result<Created<T>> {
    let Some(claim) = claim else { return work(c).map(|(made, answer)| Created::New(made, answer)) };
    match take(c, &[claim], now)?.pop() {
        Some(ClaimResult::Answered(answer)) => return Ok(Created::Before(answer)),
        Some(ClaimResult::New) | None => {}
        Some(other) => return Err(refusal(&other)),
    }
    let (made, shown) = work(c)?;
    answer(c, &claim.key.key, &keep(&shown)?)?;
    Ok(Created::New(made, shown))
}

/// Creates a resource with `work`, whose response is `answer`, in one transaction. A dry run rolls the transaction
/// back.
///
/// # Errors
/// The errors of the work, and [`refusal`]s.
pub async fn create<T: Send + 'static>(
    db: &Db,
    (mode, resource): (Mode, Uuid),
    now: Timestamp,
    answer: IdempotentResponse,
    work: impl FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
) -> Result<Created<T>> {
    match mode {
        Mode::Commit(key) => {
            let claim = Claim::of(key, resource, &answer);
            db.write(move |c| once(c, claim.as_ref(), now, answer, work)).await
        }
        Mode::DryRun => Ok(Created::New(db.rehearse(work).await?, answer.of_dry_run())),
    }
}

/// Returns the result of the same request before, for a request that is refused now: it may have been valid then.
/// Without such a request it returns the refusal.
///
/// # Errors
/// The refusal, and database errors.
pub async fn before(
    db: &Db,
    key: Option<IdempotencyKey>,
    refused: Error,
    now: Timestamp,
) -> Result<ClaimResult> {
    let (Some(key), Error::Invalid(_) | Error::Conflict(_)) = (key, &refused) else { return Err(refused) };
    let find = move |c: &mut AnyConnection| {
        let live = idempotency_key::expires_at.gt(now);
        let found = idempotency_key::table.find(&key.key).filter(live).select(Row::as_select());
        Ok(found.first(c).optional()?.map(|row: Row| row.verdict(&key, now)))
    };
    match db.read(find).await? {
        Some(ClaimResult::OtherRequest) | None => Err(refused),
        Some(known) => Ok(known),
    }
}

/// Returns the stored response like [`before`], for a request whose response is written at once.
///
/// # Errors
/// The refusal, and database errors.
pub async fn made_before<T>(
    db: &Db,
    key: Option<IdempotencyKey>,
    refused: Error,
    now: Timestamp,
) -> Result<Created<T>> {
    match before(db, key, refused, now).await? {
        ClaimResult::Answered(answer) => Ok(Created::Before(answer)),
        other => Err(refusal(&other)),
    }
}

/// Returns the error for a key that cannot be claimed.
pub fn refusal(verdict: &ClaimResult) -> Error {
    match verdict {
        ClaimResult::OtherRequest => Error::invalid(
            "Idempotency-Key",
            "was used for another request; repeat that request unchanged, or use a new key",
        ),
        ClaimResult::InWork(left) => Error::InWork {
            why: "the first request with this Idempotency-Key is still in progress; repeat it later".into(),
            retry_after: *left,
        },
        ClaimResult::New | ClaimResult::Answered(_) | ClaimResult::Unanswered(_) => {
            Error::internal("a free idempotency key was refused")
        }
    }
}

/// Deletes the stored responses of the requests that created these resources, whose person was erased. The keys stay
/// taken: a repeat of the request is refused as a different request. Returns the number of keys.
///
/// # Errors
/// Database errors.
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

/// Stores the response to a request that was in work.
///
/// # Errors
/// Database errors.
pub fn answer(c: &mut AnyConnection, key: &str, answer: &IdempotentResponse) -> Result<()> {
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

/// Releases a key that was claimed in this transaction.
///
/// # Errors
/// Database errors.
pub fn release(c: &mut AnyConnection, key: &str) -> Result<()> {
    diesel::delete(idempotency_key::table.find(key)).execute(c)?;
    Ok(())
}

/// Deletes up to `limit` expired keys, and returns their number.
///
/// # Errors
/// Database errors.
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

/// The interval at which expired keys are deleted.
const SWEEP: Duration = Duration::from_secs(60);
const SWEPT_AT_ONCE: i64 = 1000;

/// Deletes expired keys periodically, until the shutdown.
pub async fn sweep(db: Db, clock: Clock, shutdown: Shutdown) {
    run_periodically(shutdown, SWEEP, || async {
        let now = clock.now();
        match db.write(move |c| forget_old(c, now, SWEPT_AT_ONCE)).await {
            Ok(count) => i64::try_from(count).is_ok_and(|count| count == SWEPT_AT_ONCE),
            Err(error) => {
                tracing::warn!(%error, "expired idempotency keys could not be deleted; trying again");
                false
            }
        }
    })
    .await;
}
