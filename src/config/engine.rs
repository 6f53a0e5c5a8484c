//! The sections of the delivery engine and of what it sends.

use std::time::Duration;

use serde::Deserialize;

use super::setting::{DAY, HOUR, MILLISECOND, MINUTE, Value, settings};

settings! {
    /// Retries of mailings' messages. Single notifications have their own.
    retry: Retry {
        /// The delay between the first failure and the second attempt.
        first_delay: Duration = "1s", env "RETRY_FIRST_DELAY", within MILLISECOND..=DAY;
        /// The factor between one delay and the next. No delay is longer than 24 hours.
        factor: f32 = 2.0, env "RETRY_FACTOR", within 1.0..=100.0;
        /// The number of retries. By default there are at most 4 attempts, 1, 2 and 4 seconds apart.
        limit: usize = 3, env "RETRY_LIMIT", within 0.0..=20.0;
        /// The poll interval for due retries, in case that a wake-up is missed. One task polls for scheduled
        /// messages and for retries, at the shorter of `SCHEDULER_INTERVAL` and `RETRY_INTERVAL`: to poll less
        /// often, raise both.
        interval: Duration = "1s", env "RETRY_INTERVAL", within 0.01..=MINUTE;
        /// The longest `Retry-After` of a provider, a webhook or a request's server that is respected. A longer one
        /// counts as this. The pause of a whole channel after a 429 is never longer than 10 minutes.
        after_max: Duration = "1h", env "RETRY_AFTER_MAX", within 1.0..=30.0 * DAY;
    }
}

settings! {
    /// Single notifications.
    notifications: Notifications {
        /// The delay before the second attempt.
        retry_backoff_1: Duration = "5s", env "RETRY_BACKOFF_1", within MILLISECOND..=DAY;
        /// The delay before the third attempt.
        retry_backoff_2: Duration = "30s", env "RETRY_BACKOFF_2", within MILLISECOND..=DAY;
        /// The delay before the fourth and last attempt.
        retry_backoff_3: Duration = "120s", env "RETRY_BACKOFF_3", within MILLISECOND..=DAY;
        /// The longest time that `POST /notification` waits for the final state before it responds without it.
        sync_wait: Duration = "30s", env "NOTIFICATION_SYNC_WAIT", within 1.0..=5.0 * MINUTE;
        /// The notifications that may wait for the database at once. Beyond it, the response is 503 with
        /// `Retry-After`.
        intake_limit: usize = 20000, env "NOTIFICATION_INTAKE_LIMIT", within 1000.0..=1e6;
    }
}

impl Notifications {
    /// Returns the delays between the attempts.
    pub fn backoff(&self) -> Vec<Duration> {
        vec![self.retry_backoff_1, self.retry_backoff_2, self.retry_backoff_3]
    }
}

settings! {
    /// Business events.
    events: Events {
        /// The handling of events without a matching route: `refuse` returns 422 with the known events; `accept`
        /// stores the event, which then causes no messages.
        unknown: UnknownEvents = "refuse", env "EVENTS_UNKNOWN";
        /// The events that may wait for the database at once. Beyond it, the response is 503 with `Retry-After`.
        intake_limit: usize = 20000, env "EVENT_INTAKE_LIMIT", within 1000.0..=1e6;
    }
}

/// The handling of events without a matching route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownEvents {
    /// Refuses them, so that a misspelt name is noticed.
    Refuse,
    /// Stores them without sending messages.
    Accept,
}

impl Value for UnknownEvents {}

settings! {
    /// Dead letters.
    dead_letters: DeadLetters {
        /// The retention of dead letters. Until then they can be replayed.
        keep: Duration = "30days", env "DEAD_LETTER_KEEP", within MINUTE..=3650.0 * DAY;
        /// The default rate of a replay by filter in dead letters per second.
        replay_rate: f64 = 500, env "REPLAY_RATE", within 0.1..=1e5;
    }
}

settings! {
    /// The delivery engine.
    delivery: Delivery {
        /// `off`, or `serve --paused`, pauses all sending at the start, for the whole installation and every
        /// channel, until `POST /api/v1/sending/resume`: see [operations.md](operations.md#pause-all-sending). With
        /// `on`, sending stays as it was.
        sending: Sending = "on", env "SENDING";
        /// The number of recipients that are planned, or of due messages that are claimed, in one transaction: the
        /// size of a lease.
        page_size: usize = 500, env "DELIVERY_PAGE_SIZE", within 1.0..=5000.0;
        /// The number of messages in memory for one channel and priority. Leases that are taken over may exceed it.
        lane_capacity: usize = 2000, env "DELIVERY_LANE_CAPACITY", within 1.0..=1e6;
        /// The greatest number of outcomes in one group commit. The same number may wait for the next one; together
        /// with the requests in flight, this limits the messages that a crash repeats. Mail by SMTP, Discord and
        /// `sms.http` are not known to drop repeats, so at most 64 of their outcomes wait.
        record_batch: usize = 500, env "DELIVERY_RECORD_BATCH", within 1.0..=5000.0;
        /// The time without a heartbeat after which other nodes take over the leases of a node. It matters on
        /// PostgreSQL. Use the same value on all nodes.
        lease: Duration = "15s", env "DELIVERY_LEASE", within 1.0..=HOUR;
        /// The poll interval of the watchdog and the other periodic checks.
        poll: Duration = "1s", env "DELIVERY_POLL", within 0.01..=MINUTE;
        /// The poll interval for scheduled notifications, in case that a wake-up is missed. See `RETRY_INTERVAL`:
        /// the shorter of the two applies to both.
        scheduler_interval: Duration = "1s", env "SCHEDULER_INTERVAL", within 0.01..=MINUTE;
    }
}

/// The state of sending at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sending {
    /// Unchanged: sending is on, unless it was paused before.
    On,
    /// Paused for the whole installation.
    Off,
}

impl Value for Sending {}
