//! The way of outcomes to the recorder.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::IntGauge;
use tokio::sync::mpsc;

use super::model::{Outcome, QueuedMessage};
use crate::db::types::Timestamp;

/// The number of outcomes that are not on disk yet; clones share it.
#[derive(Debug, Clone)]
pub struct Unrecorded {
    count: Arc<AtomicU64>,
    /// `fanfare_unrecorded_outcomes`, which shows the count.
    gauge: IntGauge,
}

impl Unrecorded {
    /// Creates a count of zero that this gauge shows.
    pub fn new(gauge: IntGauge) -> Self {
        Self { count: Arc::default(), gauge }
    }

    /// Returns the count.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Counts one more outcome.
    fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.gauge.inc();
    }

    /// Subtracts outcomes that were recorded or given up.
    pub fn subtract(&self, outcomes: usize) {
        self.count.fetch_sub(u64::try_from(outcomes).unwrap_or_default(), Ordering::AcqRel);
        self.gauge.sub(i64::try_from(outcomes).unwrap_or_default());
    }
}

/// Sends outcomes to the recorder; clones share its channel.
#[derive(Debug, Clone)]
pub struct OutcomeSender {
    channel: mpsc::Sender<Outcome>,
    unrecorded: Unrecorded,
}

impl OutcomeSender {
    /// Creates the sender of this channel, which counts the outcomes.
    pub fn new(channel: mpsc::Sender<Outcome>, unrecorded: Unrecorded) -> Self {
        Self { channel, unrecorded }
    }

    /// Returns the number of outcomes that are not on disk yet.
    pub fn unrecorded(&self) -> &Unrecorded {
        &self.unrecorded
    }

    /// Sends an outcome to the recorder, and waits while its channel is full.
    pub async fn record(&self, outcome: Outcome) {
        self.unrecorded.add();
        if self.channel.send(outcome).await.is_err() {
            // the recorder ends last, so this happens only at a forced stop; the leases are taken over at the next
            // start
            tracing::error!("recorder stopped before it received an outcome");
        }
    }

    /// Records messages without an attempt as cancelled at `now`.
    pub async fn cancel(&self, items: impl IntoIterator<Item = QueuedMessage>, now: Timestamp) {
        for item in items {
            self.record(item.cancel(now)).await;
        }
    }
}
