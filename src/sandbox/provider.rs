//! The third party's rules: what becomes of a request to send.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret, SecretString};

use super::faults::{Fault, Faults, InvalidFaults};
use super::message::{Api, Message};
use super::request_log::{Line, RequestLog};
use super::stats::{Outcome, Tally};
use super::{SandboxArgs, named};

/// The provider's state, shared by all connections.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) tally: Tally,
    pub(super) seed: u64,
    token: Option<SecretString>,
    faults: RwLock<Faults>,
    chance: Mutex<fastrand::Rng>,
    limiter: Limiter,
    log: Option<RequestLog>,
    log_broke: AtomicBool,
}

/// A request to send, as far as HTTP tells.
pub(super) struct SendRequest<'a> {
    pub(super) api: Api,
    pub(super) path_id: &'a str,
    pub(super) bearer: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    /// None when it could not be read or was too long.
    pub(super) body: Option<&'a [u8]>,
}

/// What became of a request, and why it was refused.
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) reason: Cow<'static, str>,
}

impl Provider {
    pub(super) fn new(args: &SandboxArgs) -> io::Result<Self> {
        let invalid = |error: InvalidFaults| io::Error::new(io::ErrorKind::InvalidInput, error);
        args.faults.check().map_err(invalid)?;
        let log = match &args.log {
            Some(path) => Some(
                RequestLog::open(path)
                    .map_err(|error| named(&format!("cannot open {}", path.display()), &error))?,
            ),
            None => None,
        };
        let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
        Ok(Self {
            tally: Tally::new(),
            seed,
            token: args.token.clone(),
            faults: RwLock::new(args.faults),
            chance: Mutex::new(fastrand::Rng::with_seed(seed)),
            limiter: Limiter::new(),
            log,
            log_broke: AtomicBool::new(false),
        })
    }

    pub(super) fn faults(&self) -> Faults {
        *self.faults.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_faults(&self, faults: Faults) -> Result<(), InvalidFaults> {
        faults.check()?;
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = faults;
        Ok(())
    }

    /// Decides on a request under these faults, logs it and counts it, in this order: once it is counted,
    /// and so before it is answered, it is in the log.
    pub(super) fn receive(&self, request: &SendRequest<'_>, faults: &Faults) -> Verdict {
        let at_us = unix_micros();
        let body = request.body.map(|body| Message::read(request.api, body));
        let mut verdict = match &body {
            _ if !self.authorized(request) => Verdict::refused(Outcome::Unauthorized, "wrong bearer token"),
            None => Verdict::refused(Outcome::Rejected, "the body is too long or was cut short"),
            Some(Err(error)) => Verdict::refused(Outcome::Rejected, error.to_string()),
            Some(Ok(message)) => match message.complaint(request) {
                Some(why) => Verdict::refused(Outcome::Rejected, why),
                None => self.chance_on(faults),
            },
        };
        let message = body.and_then(Result::ok);
        let line = Line::new(at_us, request, message.as_ref(), verdict.outcome);
        if let Err(error) = self.log.as_ref().map_or(Ok(()), |log| log.append(&line)) {
            // What is not in the log must not count as received: whoever compares the two would find a loss.
            if !self.log_broke.swap(true, Ordering::Relaxed) {
                tracing::error!(%error, "the sandbox cannot write its log and answers 500 from now on");
            }
            verdict = Verdict::refused(Outcome::Error, "the log cannot be written");
        }
        self.tally.count(request.path_id, message.map(|message| message.channel()), verdict.outcome, at_us);
        verdict
    }

    fn authorized(&self, request: &SendRequest<'_>) -> bool {
        self.token.as_ref().is_none_or(|token| request.bearer == Some(token.expose_secret()))
    }

    /// A request that is as it should be meets the limit first, as at a real provider, and then its luck.
    fn chance_on(&self, faults: &Faults) -> Verdict {
        if faults.rate_limit.is_some_and(|limit| !self.limiter.admit(limit.get())) {
            return Verdict::refused(Outcome::Limited, "too many requests in this second");
        }
        let fault = if faults.any_rate() { faults.pick(self.draw()) } else { None };
        match fault {
            None => Verdict::accepted(Outcome::Received),
            Some(Fault::Hang) => Verdict::accepted(Outcome::Hung),
            Some(Fault::Drop) => Verdict::accepted(Outcome::Dropped),
            Some(Fault::Garbage) => Verdict::accepted(Outcome::Garbage),
            Some(Fault::Error) => Verdict::refused(Outcome::Error, "an error on demand"),
            Some(Fault::Permanent) => Verdict::refused(Outcome::Rejected, "no such subscriber"),
        }
    }

    fn draw(&self) -> f64 {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}

impl Verdict {
    fn accepted(outcome: Outcome) -> Self {
        Self { outcome, reason: Cow::Borrowed("OK") }
    }

    fn refused(outcome: Outcome, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, reason: reason.into() }
    }
}

/// Counts by whole seconds, as most providers do. Over a window that slides a client could be refused for a
/// hiccup of the network although it never sent too fast.
#[derive(Debug)]
struct Limiter {
    start: Instant,
    /// The second that is being counted, and the requests admitted in it.
    window: Mutex<(u64, u32)>,
}

impl Limiter {
    fn new() -> Self {
        Self { start: Instant::now(), window: Mutex::new((0, 0)) }
    }

    fn admit(&self, limit: u32) -> bool {
        let second = self.start.elapsed().as_secs();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.0 != second {
            *window = (second, 0);
        }
        if window.1 >= limit {
            return false;
        }
        window.1 += 1;
        true
    }
}

fn unix_micros() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}
