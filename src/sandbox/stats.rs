//! What the sandbox received: the other side of the service's books.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message::Channel;

/// What became of the requests since the start or the last reset. Requests are counted when they arrive, so
/// one that is still being answered is in here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// All requests to send, refused ones included.
    pub requests: u64,
    /// Messages that reached their recipient, whether or not the caller was told.
    pub received: u64,
    /// Message ids among the received.
    pub distinct: u64,
    /// Message ids received more than once.
    pub repeated: u64,
    /// Messages received beyond the first of their id: received − distinct.
    pub repeats: u64,
    /// The received by their channel.
    #[serde(default)]
    pub channels: ByChannel,
    /// The requests by what they were answered.
    pub by_status: ByStatus,
    /// When the first request arrived, in Unix milliseconds.
    pub first_at: Option<u64>,
    /// When the last request arrived, in Unix milliseconds.
    pub last_at: Option<u64>,
}

/// Received messages by their channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByChannel {
    /// Text messages, on either path.
    pub sms: u64,
    /// Mails.
    pub email: u64,
    /// Notifications on devices.
    pub push: u64,
    /// Requests to the recipients' programs.
    pub webhook: u64,
    /// Messages into Discord channels.
    pub discord: u64,
    /// Messages into inboxes.
    pub in_app: u64,
    /// Requests, in place of the servers that they name.
    #[serde(default)]
    pub request: u64,
}

/// Requests by what they were answered; each is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByStatus {
    /// Accepted, and told so.
    #[serde(rename = "200")]
    pub ok: u64,
    /// Refused for good.
    #[serde(rename = "400")]
    pub rejected: u64,
    /// Refused for a missing or a wrong token.
    #[serde(rename = "401")]
    pub unauthorized: u64,
    /// Refused for the rate limit.
    #[serde(rename = "429")]
    pub limited: u64,
    /// Failed.
    #[serde(rename = "500")]
    pub error: u64,
    /// Accepted, and the connection cut.
    pub dropped: u64,
    /// Accepted, and never answered.
    pub hung: u64,
    /// Accepted, and answered 200 with an unreadable body.
    pub garbage: u64,
}

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Received,
    Rejected,
    Unauthorized,
    Limited,
    Error,
    Dropped,
    Hung,
    Garbage,
}

impl Outcome {
    /// Whether the message reached its recipient, whatever the caller was told.
    pub(super) fn is_received(self) -> bool {
        matches!(self, Self::Received | Self::Dropped | Self::Hung | Self::Garbage)
    }

    /// The word for it in the log.
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

impl ByChannel {
    fn count(&mut self, channel: Channel) {
        let field = match channel {
            Channel::Sms => &mut self.sms,
            Channel::Email => &mut self.email,
            Channel::Push => &mut self.push,
            Channel::Webhook => &mut self.webhook,
            Channel::Discord => &mut self.discord,
            Channel::InApp => &mut self.in_app,
            Channel::Request => &mut self.request,
        };
        *field += 1;
    }

    fn add(&mut self, other: &Self) {
        self.sms += other.sms;
        self.email += other.email;
        self.push += other.push;
        self.webhook += other.webhook;
        self.discord += other.discord;
        self.in_app += other.in_app;
        self.request += other.request;
    }
}

impl ByStatus {
    fn count(&mut self, outcome: Outcome) {
        let field = match outcome {
            Outcome::Received => &mut self.ok,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Unauthorized => &mut self.unauthorized,
            Outcome::Limited => &mut self.limited,
            Outcome::Error => &mut self.error,
            Outcome::Dropped => &mut self.dropped,
            Outcome::Hung => &mut self.hung,
            Outcome::Garbage => &mut self.garbage,
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

/// More shards than threads that count, so that they seldom meet; few enough to lock all for one look.
const SHARDS: usize = 16;

/// The counters and the ids, in shards by id. A request changes one shard, under one lock, so that a look at
/// all shards at once is true to the last request.
#[derive(Debug)]
pub(super) struct Tally {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    by_status: ByStatus,
    received: u64,
    channels: ByChannel,
    /// A set, and the repeated ones apart, because a count for each id would double the memory of a million
    /// ids to say "1" of nearly all of them.
    seen: HashSet<u128>,
    repeated: BTreeSet<u128>,
    first_at_ms: Option<u64>,
    last_at_ms: Option<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Counts a request that arrived at `at_us` with the message id `id`; the channel is known of whatever is received.
    pub(super) fn count(&self, id: &str, channel: Option<Channel>, outcome: Outcome, at_us: u64) {
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

    /// The sum of all shards at one instant.
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

    /// Forgets everything, at one instant.
    pub(super) fn reset(&self) {
        let mut shards: Vec<_> = self.shards.iter().map(lock).collect();
        for shard in &mut shards {
            **shard = Shard::default();
        }
    }
}

/// A panic while counting would leave a count off by one, and is no reason to stop counting.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id in 16 bytes: a UUID as it is, anything else by two hashes.
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
        let tally = Tally::new();
        let id = Uuid::from_u128(7).to_string();
        for (id, outcome) in [
            (id.as_str(), Outcome::Error),
            (id.as_str(), Outcome::Received),
            (id.as_str(), Outcome::Dropped),
            (id.as_str(), Outcome::Hung),
            ("not a uuid", Outcome::Garbage),
            ("another", Outcome::Limited),
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
