//! Pausing and resuming all that is sent.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::repo;
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::Timestamp;
use crate::error::Result;

/// The engine, as far as the switch needs it.
pub trait Switch: Send + Sync {
    /// Sending was paused or resumed: this node heeds it at once, and tells the others.
    fn switched(&self, is_paused: bool);
}

/// The state of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Sending)]
pub struct SendingView {
    /// True if it is paused: nothing leaves over any channel, and everything waits.
    pub paused: bool,
    /// Since when, in UTC.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-12-01T06:00:00Z")]
    pub paused_at: Option<Timestamp>,
}

impl SendingView {
    fn since(paused_at: Option<Timestamp>) -> Self {
        Self { paused: paused_at.is_some(), paused_at }
    }
}

/// The switch of one database.
pub struct Sending {
    db: Db,
    clock: Clock,
    switch: Arc<dyn Switch>,
}

impl Sending {
    /// Over this database.
    pub fn new(db: Db, clock: Clock, switch: Arc<dyn Switch>) -> Self {
        Self { db, clock, switch }
    }

    /// Returns whether it is paused.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn get(&self) -> Result<SendingView> {
        self.db.read(repo::paused_at).await.map(SendingView::since)
    }

    /// Pauses it: what is in flight is finished, and nothing begins.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn pause(&self) -> Result<SendingView> {
        let now = self.clock.now();
        let since = self.db.write(move |c| repo::pause(c, now)).await?;
        self.switch.switched(true);
        tracing::warn!("sending is paused, for the whole installation");
        Ok(SendingView::since(Some(since)))
    }

    /// Resumes it: what waited goes out, as far as its window is open.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn resume(&self) -> Result<SendingView> {
        self.db.write(repo::resume).await?;
        self.switch.switched(false);
        tracing::info!("sending is resumed, for the whole installation");
        Ok(SendingView::since(None))
    }
}
