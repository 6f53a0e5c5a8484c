//! Pausing and resuming all sending.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::repo;
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::Timestamp;
use crate::error::Result;

/// The part of the engine that the switch uses.
pub trait Switch: Send + Sync {
    /// Applies a pause or a resume to this node at once, and notifies the other nodes.
    fn switched(&self, is_paused: bool);
}

/// The state of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Sending)]
pub struct SendingView {
    /// True if sending is paused: no channel sends, and everything waits.
    pub paused: bool,
    /// The time of the pause, in UTC.
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
    /// Creates the switch of this database.
    pub fn new(db: Db, clock: Clock, switch: Arc<dyn Switch>) -> Self {
        Self { db, clock, switch }
    }

    /// Returns the state of the switch.
    ///
    /// # Errors
    /// Database errors.
    pub async fn get(&self) -> Result<SendingView> {
        self.db.read(repo::paused_at).await.map(SendingView::since)
    }

    /// Pauses sending: attempts in flight finish, and no new attempt begins.
    ///
    /// # Errors
    /// Database errors.
    pub async fn pause(&self) -> Result<SendingView> {
        let now = self.clock.now();
        let since = self.db.write(move |c| repo::pause(c, now)).await?;
        self.switch.switched(true);
        tracing::warn!("sending paused for the whole installation");
        Ok(SendingView::since(Some(since)))
    }

    /// Resumes sending: waiting messages are sent if their window is still open.
    ///
    /// # Errors
    /// Database errors.
    pub async fn resume(&self) -> Result<SendingView> {
        self.db.write(repo::resume).await?;
        self.switch.switched(false);
        tracing::info!("sending resumed for the whole installation");
        Ok(SendingView::since(None))
    }
}
