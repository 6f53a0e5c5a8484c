//! Access tokens: one is fetched for all, kept, and renewed before it ends.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::account::Account;
use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::egress::{self, Endpoint, NoAnswer};
use crate::error::Result;

const LONGEST_ANSWER: usize = 64 * 1024;
/// A token is renewed so long before its end, or when a fifth of its time is left if that is less.
const MARGIN_SECONDS: i64 = 300;
/// When a renewal failed and the token is still good, the next is tried after this.
const AGAIN_SECONDS: i64 = 10;
/// A token that was fetched so lately and is refused would be no better for being fetched again.
const FRESH_SECONDS: i64 = 60;

/// Nobody asks again so soon after a failure: all messages would, one after another.
const REST_SECONDS: i64 = 2;

/// The grant of RFC 7523, 2.1, with its colons encoded; the assertion needs no encoding.
const GRANT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";

/// A token, and which of all that were fetched it is.
#[derive(Clone)]
pub(super) struct Token {
    /// `Bearer …`.
    pub(super) bearer: HeaderValue,
    number: u64,
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
    failure: Option<(i64, String)>,
}

/// Where tokens come from.
pub(super) struct Tokens {
    account: Account,
    endpoint: Endpoint,
    clock: Clock,
    state: Mutex<State>,
    /// Held by who fetches.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    expires_in: i64,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

fn seconds(time: Timestamp) -> i64 {
    time.micros().div_euclid(1_000_000)
}

impl Tokens {
    /// For this account.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) naming `field` for a `token_uri` that cannot be used.
    pub(super) fn new(field: &str, account: Account, clock: Clock) -> Result<Self> {
        let headers = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static("application/json")),
            (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
            (USER_AGENT, HeaderValue::from_static(egress::USER_AGENT)),
        ]);
        let endpoint = Endpoint::new(&format!("{field}: token_uri"), &account.token_uri, headers)?;
        Ok(Self {
            account,
            endpoint,
            clock,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that is good. One caller fetches it; while the last is still good the others go on with that, and
    /// otherwise they wait, and share the failure as well.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) async fn get(&self) -> Result<Token, String> {
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
    fn shared(&self, fetches: u64, now: i64) -> Option<Result<Token, String>> {
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

    /// The provider refused this token: the next message gets another, unless this one is new.
    pub(super) fn refuse(&self, token: &Token) {
        let age = seconds(self.clock.now()) - token.fetched;
        let mut state = self.state();
        let is_known = state.token.as_ref().is_some_and(|known| known.number == token.number);
        if is_known && !(0..FRESH_SECONDS).contains(&age) {
            state.token = None;
        }
    }

    async fn fetch(&self, number: u64) -> Result<Token, String> {
        let now = self.clock.now();
        let body = format!("{GRANT}{}", self.account.assertion(now)?);
        let headers = self.endpoint.headers().clone();
        let reply = self.endpoint.post("", headers, body).await.map_err(|why| match why {
            NoAnswer::Unreachable => "the token endpoint could not be reached".to_owned(),
            NoAnswer::Broken(how) => format!("the token endpoint broke the connection ({how})"),
        })?;
        let status = reply.status();
        let unreadable = || format!("the token endpoint's answer ({status}) cannot be read");
        let body = reply.body(LONGEST_ANSWER).await.map_err(|_| unreadable())?;
        if status != StatusCode::OK {
            return Err(refusal(status, &body));
        }
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        let bearer = format!("Bearer {}", granted.access_token.expose_secret());
        let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| unreadable())?;
        bearer.set_sensitive(true);
        let fetched = seconds(now);
        let lasts = granted.expires_in.clamp(1, 24 * 3600);
        let margin = MARGIN_SECONDS.min(lasts / 5);
        Ok(Token { bearer, number, fetched, renew: fetched + lasts - margin, end: fetched + lasts })
    }
}

/// `invalid_grant` and its like (RFC 6749, 5.2) say what to mend.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let is_word = |word: &str| word.len() <= 40 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    match serde_json::from_slice::<Refused>(body) {
        Ok(Refused { error }) if is_word(&error) => {
            format!("the token endpoint answered {status} ({error}): check the service account")
        }
        _ => format!("the token endpoint answered {status}"),
    }
}
