//! Access tokens: one is fetched for all, kept, and renewed before it ends.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::header::HeaderValue;

use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::egress::local::LOCAL_FAULT;

/// A token is renewed so long before its end, or when a fifth of its time is left if that is less.
const MARGIN_SECONDS: i64 = 300;
/// When a renewal failed and the token is still good, the next is tried after this.
const AGAIN_SECONDS: i64 = 10;
/// A token that was fetched so lately and is refused would be no better for being fetched again.
const FRESH_SECONDS: i64 = 60;
/// Nobody asks again so soon after a failure: all messages would, one after another.
const REST_SECONDS: i64 = 2;

/// What a token endpoint granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// `Bearer …`, marked as sensitive.
    pub bearer: HeaderValue,
    /// How long it is good, 1 at least.
    pub seconds: i64,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words, without anything secret.
    pub why: String,
    /// The kind of failure.
    pub kind: FailureKind,
}

/// The remedy when there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Another time may be better.
    Passing,
    /// Somebody has to fix it; asking again helps nothing.
    Lasting,
    /// This machine could make no connection: it is no fault of the token endpoint.
    LocalFault,
}

impl Failure {
    /// Another time may be better.
    pub fn passing(why: impl Into<String>) -> Self {
        Self { why: why.into(), kind: FailureKind::Passing }
    }

    /// Somebody has to fix it.
    pub fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), kind: FailureKind::Lasting }
    }

    /// This machine could make no connection.
    pub fn local() -> Self {
        Self { why: LOCAL_FAULT.to_owned(), kind: FailureKind::LocalFault }
    }
}

/// Asks a token endpoint.
pub trait Fetch: Send + Sync {
    /// Asks once. Dropping the future gives the request up.
    ///
    /// # Errors
    /// Why nothing was granted.
    fn fetch(&self, now: Timestamp) -> impl Future<Output = Result<Grant, Failure>> + Send;
}

/// A token, and which of all that were fetched it is.
#[derive(Debug, Clone)]
pub struct Token {
    /// `Bearer …`.
    pub bearer: HeaderValue,
    /// The first is 1.
    pub number: u64,
    fetched: i64,
    renew: i64,
    end: i64,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Fetches that ended.
    fetches: u64,
    /// When and how the last one failed, if it did.
    failure: Option<(i64, Failure)>,
}

/// Where tokens come from.
pub struct Tokens<F> {
    from: F,
    clock: Clock,
    state: Mutex<State>,
    /// Held by who fetches.
    fetching: tokio::sync::Mutex<()>,
}

fn seconds(time: Timestamp) -> i64 {
    time.micros().div_euclid(1_000_000)
}

impl<F: Fetch> Tokens<F> {
    /// From there; nothing is asked yet.
    pub fn new(from: F, clock: Clock) -> Self {
        Self { from, clock, state: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that is good. One caller fetches it; while the last is still good the others go on with that, and
    /// otherwise they wait, and share the failure as well.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(&self) -> Result<Token, Failure> {
        let (known, fetches) = {
            let state = self.state();
            (state.token.clone(), state.fetches)
        };
        let now = seconds(self.clock.now());
        // a clock that was set back says nothing of the end
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

    /// What another has fetched, or failed to, since `fetches` were counted or a moment ago.
    fn shared(&self, fetches: u64, now: i64) -> Option<Result<Token, Failure>> {
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

    /// The token of this number was refused: who asks next gets another, unless this one is new.
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

    async fn fetch(&self, number: u64) -> Result<Token, Failure> {
        let now = self.clock.now();
        let Grant { bearer, seconds: lasts } = self.from.fetch(now).await?;
        let (fetched, margin) = (seconds(now), MARGIN_SECONDS.min(lasts / 5));
        Ok(Token { bearer, number, fetched, renew: fetched + lasts - margin, end: fetched + lasts })
    }
}
