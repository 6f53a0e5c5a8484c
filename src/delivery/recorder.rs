//! The recorder: collects outcomes and writes them in group commits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::feeder_signal::FeederSignal;
use super::leases::{HeldLeases, LeaseState};
use super::model::{AttemptDetails, Outcome};
use super::origin::Origin;
use super::outcomes::Unrecorded;
use super::queues::Queues;
use super::repo::record::{self, Entry, Recorded};
use crate::db::refuses_values;
use crate::db::types::NodeId;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::kinds::{ChannelKind, MessageStatus, NotificationStatus, OutcomeKind};
use crate::lifecycle::Shutdown;
use crate::live::Change;
use crate::messages::repo::MessageRow;
use crate::requests::repo::RequestResult;
use crate::runtime::Runtime;

/// The delay before a failed commit is retried.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Writes outcomes until the engine ends, which is when all are written or the shutdown timeout is over.
pub struct Recorder {
    pub(super) runtime: Runtime,
    pub(super) queues: Arc<Queues>,
    pub(super) leases: Arc<HeldLeases>,
    pub(super) unrecorded: Unrecorded,
    pub(super) feeder: Arc<FeederSignal>,
    /// Wakes the claimer.
    pub(super) claim: Arc<Notify>,
    /// The largest number of outcomes in one group commit.
    pub(super) batch: usize,
    pub(super) outcomes: mpsc::Receiver<Outcome>,
}

impl Recorder {
    /// Runs until `end`. The next group collects while one is being committed, so the size of a group follows the
    /// latency of the database, and no outcome waits for a timer.
    pub async fn run(mut self, end: Shutdown) {
        let most = self.batch;
        let mut group = Vec::with_capacity(most);
        while !end.is_fired() {
            tokio::select! {
                biased;
                _ = self.outcomes.recv_many(&mut group, most) => {
                    self.write(std::mem::replace(&mut group, Vec::with_capacity(most))).await;
                }
                () = end.wait() => {}
            }
        }
    }

    /// Writes outcomes, in one group for each node id that the leases are held as: the id changes when this node was
    /// declared dead.
    async fn write(&self, outcomes: Vec<Outcome>) {
        let mut rest = outcomes;
        while let Some(first) = rest.first() {
            let node = first.item.lease.node;
            let (group, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|o| o.item.lease.node == node);
            rest = others;
            self.write_group(node, group).await;
        }
    }

    /// Writes a group. If the database rejects it, its halves are written separately, so that a rejected outcome is
    /// found and does not block the others.
    async fn write_group(&self, node: NodeId, outcomes: Vec<Outcome>) {
        let mut groups = vec![outcomes];
        while let Some(mut group) = groups.pop() {
            match self.commit(node, group.iter().map(entry).collect()).await {
                Ok(recorded) => self.finalize(&group, &recorded),
                Err(_) if group.len() > 1 => {
                    groups.push(group.split_off(group.len() / 2));
                    groups.push(group);
                }
                Err(error) => self.write_plain(node, group, error).await,
            }
        }
    }

    /// Writes a rejected outcome without the provider's texts, which are its only part from outside. An outcome that is
    /// rejected again stays open in its lease: its message counts as sending, and is sent again after the next start.
    async fn write_plain(&self, node: NodeId, group: Vec<Outcome>, refused: Error) {
        let plain = group.iter().map(|outcome| without_words(entry(outcome))).collect();
        match self.commit(node, plain).await {
            Ok(recorded) => self.finalize(&group, &recorded),
            Err(_) => {
                let id = group.first().map(|outcome| outcome.item.id.to_string()).unwrap_or_default();
                tracing::error!(
                    error = %refused,
                    message = id,
                    "outcome rejected by the database; it stays open until the next start"
                );
                self.unrecorded.subtract(1);
            }
        }
    }

    /// Retries until the database commits the group, or rejects its values: a message whose outcome is not on disk
    /// would be sent again.
    async fn commit(&self, node: NodeId, entries: Arc<[Entry]>) -> Result<Recorded> {
        loop {
            let group = Arc::clone(&entries);
            let error = match self.runtime.db.write(move |c| record::record(c, node, &group)).await {
                Ok(recorded) => return Ok(recorded),
                Err(error) => error,
            };
            self.runtime.metrics.recorder_errors.inc();
            if refuses_values(&error) {
                return Err(error);
            }
            tracing::error!(%error, outcomes = entries.len(), "outcomes could not be recorded; trying again");
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Updates the state in memory after a commit.
    fn finalize(&self, outcomes: &[Outcome], recorded: &Recorded) {
        failpoint::reach("record-after-commit");
        let metrics = &self.runtime.metrics;
        self.unrecorded.subtract(outcomes.len());
        for id in &recorded.lost {
            tracing::warn!(lease = %id, "lease lost to another node; its outcomes here were dropped");
            self.leases.forget(*id);
        }
        // reports of requests' results are messages that enter without a call of the API
        metrics.entered(ChannelKind::Request, recorded.reports);
        // messages that wait for a retry, and new ones: the reports of requests
        let (mut waits, mut pages_done) = (recorded.reports > 0, false);
        for outcome in outcomes {
            let lease = &outcome.item.lease;
            self.queues.done(&outcome.item);
            if recorded.lost.contains(&lease.id) {
                lease.lose();
            }
            if recorded.messages.contains(&outcome.item.id) {
                if !outcome.is_deferral() {
                    metrics.ended(outcome.item.origin.channel(), outcome.kind, 1);
                }
                if let Some(class) = outcome.class {
                    metrics.dead_letter(outcome.item.origin.channel(), class);
                }
                waits |= outcome.kind == OutcomeKind::Retry;
                self.tell(outcome);
            }
            match lease.recorded(1) {
                LeaseState::Done => {
                    self.leases.forget(lease.id);
                    pages_done |= lease.mailing.is_some();
                }
                LeaseState::Idle => {
                    self.leases.set_idle(lease.id);
                    pages_done = true;
                }
                LeaseState::Busy => {}
            }
        }
        if waits {
            self.claim.notify_one();
        }
        if pages_done {
            self.feeder.lease_done();
        }
    }

    /// Publishes the status change of a notification. A mailing's messages are too many for that, and requests have no
    /// subscribers.
    fn tell(&self, outcome: &Outcome) {
        if let Origin::Standalone(single) = &outcome.item.origin
            && single.channel != ChannelKind::Request
        {
            let change = Change {
                id: outcome.item.id,
                batch: single.batch,
                channel: single.channel,
                // the API's status of a message without attempts that is due later
                status: match (outcome.is_deferral(), outcome.attempts) {
                    (true, 0) => NotificationStatus::Scheduled,
                    _ => status_after(outcome.kind).into(),
                },
                attempts: outcome.attempts,
                at: outcome.at,
            };
            self.runtime.live.publish(&change, single.is_awaited);
        }
    }
}

/// Returns the status of a message after an outcome.
fn status_after(outcome: OutcomeKind) -> MessageStatus {
    match outcome {
        OutcomeKind::Delivered => MessageStatus::Sent,
        OutcomeKind::Retry => MessageStatus::Queued,
        OutcomeKind::Failed => MessageStatus::Failed,
        OutcomeKind::Expired => MessageStatus::Expired,
        OutcomeKind::Cancelled => MessageStatus::Cancelled,
    }
}

/// Returns the row to write for an outcome.
fn entry(outcome: &Outcome) -> Entry {
    let item = &outcome.item;
    let status = status_after(outcome.kind);
    // a mailing's message expires with its mailing, and names it by its number
    let (expires_at, mailing_number) = match &item.origin {
        Origin::Mailing(run) => (None, Some(run.number)),
        Origin::Standalone(single) => (single.expires_at, None),
    };
    let tried = outcome.tried.as_ref();
    let row = MessageRow {
        id: item.id,
        client_id: item.client,
        due_at: outcome.due_at,
        expires_at,
        finished_at: (status != MessageStatus::Queued).then_some(outcome.at),
        mailing_number,
        duration_ms: tried.map(|tried| tried.duration_ms),
        status_code: tried.and_then(|tried| i16::try_from(tried.status_code?).ok()),
        channel: item.origin.channel().code(),
        priority: item.origin.priority().code(),
        status: status.code(),
        attempts: outcome.attempts,
        revision: item.revision.saturating_add(1),
        recipient: item.address().unwrap_or_default(),
        provider_id: tried.and_then(|tried| storable(tried.provider_id.as_deref())),
        error: storable(outcome.error.as_deref()),
    };
    let (lease, mailing) = (item.lease.id, item.lease.mailing);
    let (class, event) = (outcome.class, item.origin.event());
    let ran =
        |tried: &AttemptDetails| RequestResult { executed_at: tried.began, response: tried.response.clone() };
    let ran = tried.filter(|_| item.origin.channel() == ChannelKind::Request).map(ran);
    Entry {
        lease,
        mailing,
        row,
        outcome: outcome.kind,
        at: outcome.at,
        tried: tried.is_some(),
        class,
        event,
        ran,
    }
}

/// Removes the texts that came from outside.
fn without_words(mut entry: Entry) -> Entry {
    entry.row.provider_id = None;
    entry.ran = entry.ran.map(|ran| RequestResult { response: None, ..ran });
    entry.row.error =
        (entry.outcome != OutcomeKind::Delivered).then(|| "the database rejected the error text".to_owned());
    entry
}

/// Replaces NUL, which PostgreSQL's texts cannot contain. A provider that sends one must not make the whole group
/// impossible to record.
fn storable(text: Option<&str>) -> Option<String> {
    text.map(|text| text.replace('\0', "\u{fffd}"))
}
