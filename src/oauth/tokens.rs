//! Access tokens: fetched once for all callers, cached, and renewed before they expire.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::header::HeaderValue;

use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::egress::local::LOCAL_FAULT;

/// A token is renewed this long before it expires, or when a fifth of its lifetime is left if that is less.
const MARGIN_SECONDS: i64 = 300;
/// The wait between renewals after a failed one, while the token is still valid.
const AGAIN_SECONDS: i64 = 10;
/// A token that was fetched this recently is kept even if it is refused: another one would be refused too.
const FRESH_SECONDS: i64 = 60;
/// The wait after a failure, without which every message in turn would send a request.
const REST_SECONDS: i64 = 2;

/// The grant of a token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// `Bearer …`, marked as sensitive.
    pub bearer: HeaderValue,
    /// The lifetime in seconds, at least 1.
    pub seconds: i64,
}

/// The reason why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFailure {
    /// The description, without secrets.
    pub why: String,
    /// The kind of failure.
    pub kind: FailureKind,
}

/// The remedy for a missing token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A later request may succeed.
    Passing,
    /// An operator has to fix it; another request does not help.
    Lasting,
    /// This machine could not open a connection: the token endpoint is not at fault.
    LocalFault,
}

impl TokenFailure {
    /// Creates a failure that a later request may not meet.
    pub fn passing(why: impl Into<String>) -> Self {
        Self { why: why.into(), kind: FailureKind::Passing }
    }

    /// Creates a failure that an operator has to fix.
    pub fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), kind: FailureKind::Lasting }
    }

    /// Creates the failure of a connection that this machine could not open.
    pub fn local() -> Self {
        Self { why: LOCAL_FAULT.to_owned(), kind: FailureKind::LocalFault }
    }
}

/// Requests a token from its endpoint.
pub trait Fetch: Send + Sync {
    /// Sends one request. Dropping the future cancels it.
    ///
    /// # Errors
    /// The reason why no token was granted.
    fn fetch(&self, now: Timestamp) -> impl Future<Output = Result<Grant, TokenFailure>> + Send;
}

/// A token, with the sequence number of its fetch.
#[derive(Debug, Clone)]
pub struct Token {
    /// `Bearer …`.
    pub bearer: HeaderValue,
    /// The sequence number; the first is 1.
    pub number: u64,
    fetched: i64,
    renew: i64,
    end: i64,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// The number of completed fetches.
    fetches: u64,
    /// The time and cause of the last fetch's failure, if it failed.
    failure: Option<(i64, TokenFailure)>,
}

/// A cached token, and its source.
pub struct TokenCache<F> {
    from: F,
    clock: Clock,
    state: Mutex<State>,
    /// Held by the caller that fetches.
    fetching: tokio::sync::Mutex<()>,
}

fn seconds(time: Timestamp) -> i64 {
    time.micros().div_euclid(1_000_000)
}

impl<F: Fetch> TokenCache<F> {
    /// Creates an empty cache. It sends no request yet.
    pub fn new(from: F, clock: Clock) -> Self {
        Self { from, clock, state: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a valid token. One caller fetches it. The others use the previous token while that is valid; otherwise
    /// they wait, and share a failure too.
    ///
    /// # Errors
    /// The reason why there is none.
    pub async fn get(&self) -> Result<Token, TokenFailure> {
        let (known, fetches) = {
            let state = self.state();
            (state.token.clone(), state.fetches)
        };
        let now = seconds(self.clock.now());
        // after the clock was set back, the stored end is meaningless
        let known = known.filter(|token| (token.fetched..token.end).contains(&now));
        if let Some(token) = known.as_ref().filter(|token| now < token.renew) {
            return Ok(token.clone());
        }
        let _held = match (self.fetching.try_lock(), &known) {
            (Ok(held), _) => held,
            (Err(_), Some(token)) => return Ok(token.clone()),
            (Err(_), None) => self.fetching.lock().await,
        };
        if let Some(shared) = self.shared(fetches, now) {
            return shared.or_else(|why| known.ok_or(why));
        }
        let fetched = self.fetch(fetches + 1).await;
        let mut state = self.state();
        state.fetches += 1;
        state.failure = fetched.as_ref().err().map(|why| (now, why.clone()));
        match (fetched, known) {
            (Ok(token), _) => {
                state.token = Some(token.clone());
                Ok(token)
            }
            (Err(_), Some(known)) => {
                let token = Token { renew: now + AGAIN_SECONDS, ..known };
                state.token = Some(token.clone());
                Ok(token)
            }
            (Err(why), None) => Err(why),
        }
    }

    /// Returns the result of a fetch by another caller, since `fetches` were counted or moments ago.
    fn shared(&self, fetches: u64, now: i64) -> Option<Result<Token, TokenFailure>> {
        let state = self.state();
        match &state.failure {
            Some((at, why)) if state.fetches != fetches || (0..REST_SECONDS).contains(&(now - at)) => {
                Some(Err(why.clone()))
            }
            Some(_) => None,
            None if state.fetches != fetches => state.token.clone().map(Ok),
            None => None,
        }
    }

    /// Reports that the token with this number was refused: the next caller fetches another, unless this one is recent.
    pub fn refuse(&self, number: u64) {
        let now = seconds(self.clock.now());
        let mut state = self.state();
        let is_it = |known: &&Token| known.number == number;
        if state
            .token
            .as_ref()
            .filter(is_it)
            .is_some_and(|t| !(0..FRESH_SECONDS).contains(&(now - t.fetched)))
        {
            state.token = None;
        }
    }

    async fn fetch(&self, number: u64) -> Result<Token, TokenFailure> {
        let now = self.clock.now();
        let Grant { bearer, seconds: lasts } = self.from.fetch(now).await?;
        let (fetched, margin) = (seconds(now), MARGIN_SECONDS.min(lasts / 5));
        Ok(Token { bearer, number, fetched, renew: fetched + lasts - margin, end: fetched + lasts })
    }
}
