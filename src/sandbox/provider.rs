//! The rules of the third party: the outcome of a request to send.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret, SecretString};

use super::args::SandboxArgs;
use super::faults::{Fault, Faults, InvalidFaults};
use super::files::named;
use super::message::{Message, SendRequest};
use super::request_log::{Line, RequestLog};
use super::stats::{RequestCounts, RequestOutcome};

/// The provider's state, shared by all connections.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) tally: RequestCounts,
    pub(super) seed: u64,
    token: Option<SecretString>,
    faults: RwLock<Faults>,
    chance: Mutex<fastrand::Rng>,
    limiter: Limiter,
    log: Option<RequestLog>,
    log_broke: AtomicBool,
}

/// The outcome of a request, and the reason for a refusal.
pub(super) struct ReceiveResult {
    pub(super) outcome: RequestOutcome,
    pub(super) reason: Cow<'static, str>,
}

impl Provider {
    pub(super) fn new(args: &SandboxArgs) -> io::Result<Self> {
        let invalid = |error: InvalidFaults| io::Error::new(io::ErrorKind::InvalidInput, error);
        args.faults.check().map_err(invalid)?;
        let open = |path: &PathBuf| {
            RequestLog::open(path).map_err(|error| named(&format!("cannot open {}", path.display()), &error))
        };
        let log = args.log.as_ref().map(open).transpose()?;
        let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
        Ok(Self {
            tally: RequestCounts::new(),
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

    /// Decides on a request under these faults, then logs it, then counts it. A counted request, and so one that got a
    /// response, is always in the log.
    pub(super) fn receive(&self, request: &SendRequest<'_>, faults: &Faults) -> ReceiveResult {
        let at_us = unix_micros();
        let body = request.body.map(|body| Message::read(request.api, body));
        let mut verdict = match &body {
            _ if !self.authorized(request) => {
                ReceiveResult::refused(RequestOutcome::Unauthorized, "wrong bearer token")
            }
            None => ReceiveResult::refused(RequestOutcome::Rejected, "the body is too long or was cut short"),
            Some(Err(error)) => ReceiveResult::refused(RequestOutcome::Rejected, error.to_string()),
            Some(Ok(message)) => match message.complaint(request) {
                Some(why) => ReceiveResult::refused(RequestOutcome::Rejected, why),
                None => self.chance_on(faults),
            },
        };
        let message = body.and_then(Result::ok);
        let line = Line::new(at_us, request, message.as_ref(), verdict.outcome);
        if let Err(error) = self.log.as_ref().map_or(Ok(()), |log| log.append(&line)) {
            // A request that is not in the log must not count as received: comparing the two would show a loss.
            if !self.log_broke.swap(true, Ordering::Relaxed) {
                tracing::error!(%error, "sandbox log failed; returning 500 from now on");
            }
            verdict = ReceiveResult::refused(RequestOutcome::Error, "the log cannot be written");
        }
        self.tally.count(request.path_id, message.map(|message| message.channel()), verdict.outcome, at_us);
        verdict
    }

    fn authorized(&self, request: &SendRequest<'_>) -> bool {
        self.token.as_ref().is_none_or(|token| request.bearer == Some(token.expose_secret()))
    }

    /// A valid request is checked against the rate limit first, as at a real provider, then gets a random fault.
    fn chance_on(&self, faults: &Faults) -> ReceiveResult {
        if faults.rate_limit.is_some_and(|limit| !self.limiter.admit(limit.get())) {
            return ReceiveResult::refused(RequestOutcome::Limited, "too many requests in this second");
        }
        let fault = if faults.any_rate() { faults.pick(self.draw()) } else { None };
        match fault {
            None => ReceiveResult::accepted(RequestOutcome::Received),
            Some(Fault::Hang) => ReceiveResult::accepted(RequestOutcome::Hung),
            Some(Fault::Drop) => ReceiveResult::accepted(RequestOutcome::Dropped),
            Some(Fault::Garbage) => ReceiveResult::accepted(RequestOutcome::Garbage),
            Some(Fault::Error) => ReceiveResult::refused(RequestOutcome::Error, "injected error"),
            Some(Fault::Permanent) => ReceiveResult::refused(RequestOutcome::Rejected, "unknown subscriber"),
        }
    }

    fn draw(&self) -> f64 {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}

impl ReceiveResult {
    fn accepted(outcome: RequestOutcome) -> Self {
        Self { outcome, reason: Cow::Borrowed("OK") }
    }

    fn refused(outcome: RequestOutcome, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, reason: reason.into() }
    }
}

/// A rate limiter by whole seconds, as most providers use. A sliding window could refuse a client because of network
/// jitter, although it never sent too fast.
#[derive(Debug)]
struct Limiter {
    start: Instant,
    /// The current second, and the requests admitted in it.
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
