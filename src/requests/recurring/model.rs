//! Recurring requests and their due occurrences.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::db::types::{RecurringId, Timestamp};
use crate::error::Complaints;
use crate::kinds::coded_enum;
use crate::requests::cron::{self, Cron};
use crate::requests::model::{Recurrence, RequestDraft};

/// The number of next occurrences that the API shows.
pub const SHOWN: usize = 5;
/// An occurrence that is later than this was missed: the service was not there to start it.
const MISSED: Duration = Duration::from_secs(60);
/// The resolution of timestamps.
const TICK: Duration = Duration::from_micros(1);

coded_enum! {
    /// The status of a recurring request.
    RecurringStatus {
        /// It runs at its times.
        Scheduled = 1 "scheduled",
        /// It does not run until it is resumed.
        Paused = 2 "paused",
        /// It never runs again.
        Cancelled = 3 "cancelled",
    }
}

coded_enum! {
    /// The handling of occurrences that were missed while the service was down.
    CatchUp {
        /// It runs once for all of them.
        Once = 1 "once",
        /// They are skipped.
        Skip = 2 "skip",
    }
}

/// A recurring request.
#[derive(Debug, Clone, PartialEq)]
pub struct RecurringRequest {
    /// The id, which is the `recurring_id` of each occurrence.
    pub id: RecurringId,
    /// The status.
    pub status: RecurringStatus,
    /// The cron expression: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// The time zone of `cron`.
    pub timezone: String,
    /// The handling of missed occurrences.
    pub catch_up: CatchUp,
    /// The next five occurrences; fewer near its end, empty while it is paused and after its cancellation.
    pub next_runs: Vec<Timestamp>,
    /// The due time of its last occurrence.
    pub last_run_at: Option<Timestamp>,
    /// No occurrence is planned before this time.
    pub execute_at: Option<Timestamp>,
    /// No occurrence is planned at this time or later.
    pub until: Option<Timestamp>,
    /// The HTTP request of each occurrence and its report, with the delays of their retries.
    pub draft: RequestDraft,
    /// The time at which it was accepted.
    pub created_at: Timestamp,
    /// The time at which it was last paused, resumed or cancelled.
    pub updated_at: Timestamp,
}

/// A validated [`Recurrence`].
#[derive(Debug, Clone)]
pub struct CronSchedule {
    /// The times of its occurrences.
    pub cron: Cron,
    /// The handling of missed occurrences.
    pub catch_up: CatchUp,
    /// No occurrence is planned before this time.
    pub starts_at: Option<Timestamp>,
    /// No occurrence is planned at this time or later.
    pub ends_at: Option<Timestamp>,
}

/// The due occurrences of a recurring request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The scheduled times of the due occurrences.
    pub runs: Vec<Timestamp>,
    /// The time of the next occurrence.
    pub next_at: Option<Timestamp>,
}

impl CronSchedule {
    /// Validates a recurrence. Errors have the names of the fields.
    pub fn read(
        asked: &Recurrence,
        (starts_at, ends_at): (Option<Timestamp>, Option<Timestamp>),
        wrong: &mut Complaints,
    ) -> Option<Self> {
        let zone = asked.timezone.as_deref().map_or(Ok(chrono_tz::UTC), cron::zone);
        let zone = wrong.check("timezone", zone);
        let catch_up = asked.catch_up.as_deref().map_or(Ok(CatchUp::Once), str::parse);
        let catch_up = wrong.check("catch_up", catch_up);
        // an expression's validity does not depend on the zone
        let cron = wrong.check("cron", Cron::parse(&asked.cron, zone.unwrap_or(chrono_tz::UTC)));
        zone?;
        Some(Self { cron: cron?, catch_up: catch_up?, starts_at, ends_at })
    }

    /// Returns the first occurrence after `now`.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        // an occurrence may be exactly at `starts_at`
        let from = self.starts_at.map_or(now, |at| at.minus(TICK).max(now));
        self.cron.next_after(from).filter(|at| self.goes_on_at(*at))
    }

    /// Returns up to `count` occurrences, beginning with `next_at`.
    pub fn upcoming(&self, next_at: Timestamp, count: usize) -> Vec<Timestamp> {
        let times = std::iter::successors(Some(next_at), |at| self.cron.next_after(*at));
        times.take_while(|at| self.goes_on_at(*at)).take(count).collect()
    }

    /// Returns true if it may run at this time.
    pub fn goes_on_at(&self, at: Timestamp) -> bool {
        self.ends_at.is_none_or(|end| at < end)
    }

    /// Returns the occurrences that are due at `now`, given that the next one is at `next_at`. Occurrences that are
    /// late by more than a minute were missed, and become one occurrence or none. At the end or later none is due.
    pub fn due(&self, next_at: Timestamp, now: Timestamp) -> Due {
        let on_time = now.minus(MISSED);
        let mut runs = Vec::new();
        let mut next = Some(next_at);
        if next_at < on_time {
            if self.catch_up == CatchUp::Once {
                runs.push(next_at);
            }
            next = self.cron.next_after(on_time.minus(TICK));
        }
        while let Some(at) = next.filter(|at| *at <= now) {
            runs.push(at);
            next = self.cron.next_after(at);
        }
        if !self.goes_on_at(now) {
            runs.clear();
        }
        Due { runs, next_at: next.filter(|at| self.goes_on_at(*at)) }
    }
}
