//! Recurring requests, and which of their runs are due.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::types::{RecurringId, Timestamp};
use crate::error::Complaints;
use crate::kinds::coded_enum;
use crate::requests::cron::{self, Cron};
use crate::requests::usecase::Recurrence;
use crate::requests::view::{CallView, NotifyView, RetryView};

/// How many of the next runs are shown.
pub const SHOWN: usize = 5;
/// A run that is later than this was missed: nothing was there to begin it.
const MISSED: Duration = Duration::from_secs(60);
/// What two times differ in at least.
const TICK: Duration = Duration::from_micros(1);

coded_enum! {
    /// Whether a recurring request goes on.
    RecurringStatus {
        /// It runs at its times.
        Scheduled = 1 "scheduled",
        /// It does not, until it is resumed.
        Paused = 2 "paused",
        /// It never will again.
        Cancelled = 3 "cancelled",
    }
}

coded_enum! {
    /// What becomes of runs that were missed while the service was down.
    CatchUp {
        /// One run makes up for all of them.
        Once = 1 "once",
        /// They are left out.
        Skip = 2 "skip",
    }
}

/// A recurring request.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RecurringRequest {
    /// Its runs have it as their `recurring_id`.
    pub id: RecurringId,
    /// Whether it goes on.
    pub status: RecurringStatus,
    /// When it runs: minute, hour, day of the month, month, day of the week.
    #[schema(example = "0 9 * * 1-5")]
    pub cron: String,
    /// By the clock of this zone.
    #[schema(example = "Europe/Berlin")]
    pub timezone: String,
    /// What becomes of runs that were missed.
    pub catch_up: CatchUp,
    /// The next five runs; fewer before its end, none while it is paused and once it is cancelled.
    #[schema(value_type = Vec<String>, format = DateTime, max_items = 5)]
    pub next_runs: Vec<Timestamp>,
    /// When its last run was due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_run_at: Option<Timestamp>,
    /// No run is planned before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub execute_at: Option<Timestamp>,
    /// No run is planned at this time or after it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// What each run sends.
    pub request: CallView,
    /// What is tried again, and when.
    pub retry: RetryView,
    /// Where the result of each run is reported to.
    pub notify: Option<NotifyView>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last paused, resumed or cancelled.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A [`Recurrence`] that was checked.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// When it runs.
    pub cron: Cron,
    /// What becomes of runs that were missed.
    pub catch_up: CatchUp,
    /// No run is planned before this time.
    pub starts_at: Option<Timestamp>,
    /// No run is planned at this time or after it.
    pub ends_at: Option<Timestamp>,
}

/// What is due of a recurring request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// When its runs were to begin.
    pub runs: Vec<Timestamp>,
    /// When the next one is.
    pub next_at: Option<Timestamp>,
}

impl Schedule {
    /// Reads what was asked for; complaints name the fields.
    pub fn read(
        asked: &Recurrence,
        (starts_at, ends_at): (Option<Timestamp>, Option<Timestamp>),
        wrong: &mut Complaints,
    ) -> Option<Self> {
        let zone = asked.timezone.as_deref().map_or(Ok(chrono_tz::UTC), cron::zone);
        let zone = wrong.check("timezone", zone);
        let catch_up = asked.catch_up.as_deref().map_or(Ok(CatchUp::Once), str::parse);
        let catch_up = wrong.check("catch_up", catch_up);
        // one that is read is not read otherwise in another zone
        let cron = wrong.check("cron", Cron::parse(&asked.cron, zone.unwrap_or(chrono_tz::UTC)));
        zone?;
        Some(Self { cron: cron?, catch_up: catch_up?, starts_at, ends_at })
    }

    /// The first run after `now`.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        // a run may be at the very time from which on there may be some
        let from = self.starts_at.map_or(now, |at| at.minus(TICK).max(now));
        self.cron.next_after(from).filter(|at| self.goes_on_at(*at))
    }

    /// Up to `count` runs from this one on.
    pub fn upcoming(&self, next_at: Timestamp, count: usize) -> Vec<Timestamp> {
        let times = std::iter::successors(Some(next_at), |at| self.cron.next_after(*at));
        times.take_while(|at| self.goes_on_at(*at)).take(count).collect()
    }

    /// Whether it may run at this time.
    pub fn goes_on_at(&self, at: Timestamp) -> bool {
        self.ends_at.is_none_or(|end| at < end)
    }

    /// What is due at `now` of one whose next run is at `next_at`. What is late by more than a minute was missed, and comes
    /// to one run or to none. At its end or after it nothing is made.
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
