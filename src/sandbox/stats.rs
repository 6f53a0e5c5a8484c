//! Counts of the requests that the sandbox received, to compare with the service's own.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::channel::{ByChannel, Channel};

/// Counts of requests since the start or the last reset. Requests are counted when they arrive, so those in progress
/// are included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// All requests to send, refused ones included.
    pub requests: u64,
    /// Messages that reached their recipient, whatever the caller was told.
    pub received: u64,
    /// Distinct message ids among the received.
    pub distinct: u64,
    /// Message ids received more than once.
    pub repeated: u64,
    /// Messages received beyond the first of their id: received − distinct.
    pub repeats: u64,
    /// The received messages by channel.
    #[serde(default)]
    pub channels: ByChannel,
    /// The requests by response.
    pub by_status: ByStatus,
    /// The time of the first request, in Unix milliseconds.
    pub first_at: Option<u64>,
    /// The time of the last request, in Unix milliseconds.
    pub last_at: Option<u64>,
}

/// Requests by response; each is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByStatus {
    /// Accepted, with a response that says so.
    #[serde(rename = "200")]
    pub ok: u64,
    /// Refused permanently.
    #[serde(rename = "400")]
    pub rejected: u64,
    /// Refused because of a missing or wrong token.
    #[serde(rename = "401")]
    pub unauthorized: u64,
    /// Refused because of the rate limit.
    #[serde(rename = "429")]
    pub limited: u64,
    /// Failed.
    #[serde(rename = "500")]
    pub error: u64,
    /// Accepted, and the connection was cut.
    pub dropped: u64,
    /// Accepted, without a response.
    pub hung: u64,
    /// Accepted, with a 200 and an unreadable body.
    pub garbage: u64,
}

/// The outcome of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestOutcome {
    Received,
    Rejected,
    Unauthorized,
    Limited,
    Error,
    Dropped,
    Hung,
    Garbage,
}

impl RequestOutcome {
    /// Returns true if the message reached its recipient, whatever the caller was told.
    pub(super) fn is_received(self) -> bool {
        matches!(self, Self::Received | Self::Dropped | Self::Hung | Self::Garbage)
    }

    /// The word in the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Rejected | Self::Unauthorized => "rejected",
            Self::Limited => "limited",
            Self::Error => "error",
            Self::Dropped => "dropped",
            Self::Hung => "hung",
            Self::Garbage => "garbage",
        }
    }
}

impl ByStatus {
    fn count(&mut self, outcome: RequestOutcome) {
        let field = match outcome {
            RequestOutcome::Received => &mut self.ok,
            RequestOutcome::Rejected => &mut self.rejected,
            RequestOutcome::Unauthorized => &mut self.unauthorized,
            RequestOutcome::Limited => &mut self.limited,
            RequestOutcome::Error => &mut self.error,
            RequestOutcome::Dropped => &mut self.dropped,
            RequestOutcome::Hung => &mut self.hung,
            RequestOutcome::Garbage => &mut self.garbage,
        };
        *field += 1;
    }

    fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.rejected += other.rejected;
        self.unauthorized += other.unauthorized;
        self.limited += other.limited;
        self.error += other.error;
        self.dropped += other.dropped;
        self.hung += other.hung;
        self.garbage += other.garbage;
    }

    fn total(&self) -> u64 {
        let received = self.ok + self.dropped + self.hung + self.garbage;
        received + self.rejected + self.unauthorized + self.limited + self.error
    }
}

/// More shards than counting threads, so that they seldom collide; few enough to lock all of them for a snapshot.
const SHARDS: usize = 16;

/// The counters and the ids, in shards by id. A request changes one shard under one lock, so a snapshot of all shards
/// is exact.
#[derive(Debug)]
pub(super) struct RequestCounts {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    by_status: ByStatus,
    received: u64,
    channels: ByChannel,
    /// A set, with the repeated ids in another: a count for each id would double the memory of a million ids, nearly
    /// all of which occur once.
    seen: HashSet<u128>,
    repeated: BTreeSet<u128>,
    first_at_ms: Option<u64>,
    last_at_ms: Option<u64>,
}

impl RequestCounts {
    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Counts a request that arrived at `at_us` with the message id `id`. The channel is known for every received
    /// message.
    pub(super) fn count(&self, id: &str, channel: Option<Channel>, outcome: RequestOutcome, at_us: u64) {
        let key = key_of(id);
        let at = at_us / 1000;
        let Some(shard) = usize::try_from(key % SHARDS as u128).ok().and_then(|n| self.shards.get(n)) else {
            return;
        };
        let mut shard = lock(shard);
        shard.by_status.count(outcome);
        shard.first_at_ms = Some(shard.first_at_ms.map_or(at, |first| first.min(at)));
        shard.last_at_ms = shard.last_at_ms.max(Some(at));
        if outcome.is_received() {
            shard.received += 1;
            if let Some(channel) = channel {
                shard.channels.count(channel);
            }
            if !shard.seen.insert(key) {
                shard.repeated.insert(key);
            }
        }
    }

    /// Returns the sum of all shards at one instant.
    pub(super) fn stats(&self) -> Stats {
        let shards: Vec<_> = self.shards.iter().map(lock).collect();
        let mut stats = Stats::default();
        for shard in &shards {
            stats.received += shard.received;
            stats.distinct += shard.seen.len() as u64;
            stats.repeated += shard.repeated.len() as u64;
            stats.channels.add(&shard.channels);
            stats.by_status.add(&shard.by_status);
            stats.first_at = [stats.first_at, shard.first_at_ms].into_iter().flatten().min();
            stats.last_at = stats.last_at.max(shard.last_at_ms);
        }
        stats.requests = stats.by_status.total();
        stats.repeats = stats.received - stats.distinct;
        stats
    }

    /// Resets everything, at one instant.
    pub(super) fn reset(&self) {
        let mut shards: Vec<_> = self.shards.iter().map(lock).collect();
        for shard in &mut shards {
            **shard = Shard::default();
        }
    }
}

/// Ignores poisoning: a panic while counting would leave one count off by one, which is acceptable.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the id in 16 bytes: a UUID as it is, any other text by two hashes.
fn key_of(id: &str) -> u128 {
    if let Ok(uuid) = Uuid::try_parse(id) {
        return uuid.as_u128();
    }
    let hash = |part: u8| {
        let mut hasher = DefaultHasher::new();
        (part, id).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    hash(0) << 64 | hash(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_told_from_the_distinct() {
        let tally = RequestCounts::new();
        let id = Uuid::from_u128(7).to_string();
        for (id, outcome) in [
            (id.as_str(), RequestOutcome::Error),
            (id.as_str(), RequestOutcome::Received),
            (id.as_str(), RequestOutcome::Dropped),
            (id.as_str(), RequestOutcome::Hung),
            ("not a uuid", RequestOutcome::Garbage),
            ("another", RequestOutcome::Limited),
        ] {
            tally.count(id, Some(Channel::Push), outcome, 5_000_000);
        }
        let stats = tally.stats();
        assert_eq!((stats.requests, stats.received, stats.distinct), (6, 4, 2));
        assert_eq!((stats.repeated, stats.repeats), (1, 2));
        assert_eq!(stats.channels, ByChannel { push: 4, ..ByChannel::default() });
        assert_eq!((stats.first_at, stats.last_at), (Some(5000), Some(5000)));
        tally.reset();
        assert_eq!(tally.stats(), Stats::default());
    }

    #[test]
    fn an_id_is_the_same_however_it_is_written() {
        assert_eq!(
            key_of("0198C2D0-0000-7000-8000-000000000001"),
            key_of("0198c2d0000070008000000000000001")
        );
        assert_ne!(key_of("a"), key_of("b"));
    }
}
