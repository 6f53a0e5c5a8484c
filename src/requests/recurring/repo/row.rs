//! The row of a recurring request, and its conversion from and to the model.

use std::time::Duration;

use diesel::prelude::*;

use crate::db::schema::recurring_request;
use crate::db::types::{RecurringId, Timestamp};
use crate::error::{Error, Result};
use crate::requests::cron::{self, Cron};
use crate::requests::model::{RequestDraft, stored, to_json};
use crate::requests::recurring::model::{CatchUp, CronSchedule, RecurringRequest, RecurringStatus, SHOWN};

/// A row of `recurring_request`.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = recurring_request)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct RecurringRow {
    pub id: RecurringId,
    pub status: i16,
    pub cron: String,
    pub timezone: String,
    pub catch_up: i16,
    pub next_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub starts_at: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
    pub spec: String,
    pub retry: Option<String>,
    pub notify: Option<String>,
}

impl RecurringRow {
    /// Creates the row of a new recurring request with the first occurrence at `next_at`.
    ///
    /// # Errors
    /// If the request cannot be serialized.
    pub fn new(
        asked: &RequestDraft,
        schedule: &CronSchedule,
        next_at: Timestamp,
        now: Timestamp,
    ) -> Result<Self> {
        Ok(Self {
            id: RecurringId::new(),
            status: RecurringStatus::Scheduled.code(),
            cron: schedule.cron.as_str().to_owned(),
            timezone: schedule.cron.zone().name().to_owned(),
            catch_up: schedule.catch_up.code(),
            next_at: Some(next_at),
            last_at: None,
            created_at: now,
            updated_at: now,
            starts_at: schedule.starts_at,
            ends_at: schedule.ends_at,
            spec: to_json(&asked.spec)?,
            retry: asked.delays.as_ref().map(to_json).transpose()?,
            notify: asked.notify.as_ref().map(to_json).transpose()?,
        })
    }

    /// Returns its schedule.
    ///
    /// # Errors
    /// If this version of the service cannot read the row, for example because it no longer knows the time zone.
    pub fn schedule(&self) -> Result<CronSchedule> {
        let cron = cron::zone(&self.timezone).and_then(|zone| Cron::from_stored(&self.cron, zone));
        Ok(CronSchedule {
            cron: cron.map_err(Error::internal)?,
            catch_up: CatchUp::from_code(self.catch_up)?,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
        })
    }

    /// Returns the request of each occurrence.
    ///
    /// # Errors
    /// If no version of the service stored these values.
    pub fn asked(&self) -> Result<RequestDraft> {
        Ok(RequestDraft {
            spec: stored(&self.spec)?,
            delays: self.retry.as_deref().map(stored).transpose()?,
            until: self.ends_at,
            notify: self.notify.as_deref().map(stored).transpose()?,
        })
    }
}

impl RecurringRequest {
    /// Builds it from its row; `default` are the delays of a request without its own.
    ///
    /// # Errors
    /// If no version of the service stored these values.
    pub fn from_row(row: &RecurringRow, default: &[Duration]) -> Result<Self> {
        let upcoming = |at: Timestamp| row.schedule().map(|schedule| schedule.upcoming(at, SHOWN));
        Ok(Self {
            id: row.id,
            status: RecurringStatus::from_code(row.status)?,
            cron: row.cron.clone(),
            timezone: row.timezone.clone(),
            catch_up: CatchUp::from_code(row.catch_up)?,
            // empty if the time zone is no longer known
            next_runs: row.next_at.and_then(|at| upcoming(at).ok()).unwrap_or_default(),
            last_run_at: row.last_at,
            execute_at: row.starts_at,
            until: row.ends_at,
            draft: row.asked()?.with_default_delays(default),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}
