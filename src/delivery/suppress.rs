//! Applies recipient preferences. They are checked when a message enters its lane, so that a suppressed message never
//! uses the channel's rate, and again right before the attempt.

use chrono_tz::Tz;

use super::model::{Outcome, QueuedMessage};
use super::reasons::{CLIENT_DELETED, QUIET, QUIET_TOO_LONG};
use crate::db::types::Timestamp;
use crate::kinds::OutcomeKind;
use crate::metrics::Metrics;
use crate::preferences::model::Decision;

/// A message after its recipient's preferences were applied.
pub enum Admission {
    /// The message may be sent.
    Admitted(QueuedMessage),
    /// The message is suppressed or deferred.
    Suppressed(Outcome),
}

/// Applies recipient preferences.
#[derive(Clone)]
pub struct Suppressor {
    quiet_zone: Tz,
    metrics: Metrics,
}

impl Suppressor {
    /// Creates a suppressor, with the time zone for the quiet hours of clients without a time zone.
    pub fn new(quiet_zone: Tz, metrics: Metrics) -> Self {
        Self { quiet_zone, metrics }
    }

    /// Applies the preferences of its recipient to a message at `now`.
    pub fn apply(&self, item: QueuedMessage, now: Timestamp) -> Admission {
        if item.is_erased() {
            return Admission::Suppressed(item.close(OutcomeKind::Cancelled, now, CLIENT_DELETED));
        }
        let channel = item.origin.channel();
        let decision = match &item.preferences {
            Some(preferences) => {
                let kind = (item.origin.group(), item.origin.is_transactional());
                preferences.decide(channel, kind, (now, self.quiet_zone))
            }
            None => Decision::Send,
        };
        let (counter, outcome) = match decision {
            Decision::Send => return Admission::Admitted(item),
            Decision::Suppress(why) => {
                (&self.metrics.opted_out, item.close(OutcomeKind::Cancelled, now, why))
            }
            Decision::Defer(until) if item.origin.ends_at().is_some_and(|end| until >= end) => {
                return Admission::Suppressed(item.close(OutcomeKind::Expired, now, QUIET_TOO_LONG));
            }
            Decision::Defer(until) => (&self.metrics.deferred, item.defer(now, until, QUIET)),
        };
        counter.with_label_values(&[channel.as_str()]).inc();
        Admission::Suppressed(outcome)
    }
}
