//! The recorder: gathers outcomes and writes them in group commits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::model::{Outcome, PageState, Tried};
use super::origin::Origin;
use super::repo::record::{self, Entry, Recorded};
use super::shared::Shared;
use crate::db::refuses_values;
use crate::db::types::NodeId;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::kinds::{ChannelKind, MessageStatus, NotificationStatus, OutcomeKind};
use crate::lifecycle::Shutdown;
use crate::live::Change;
use crate::messages::repo::MessageRow;
use crate::requests::repo::Ran;

/// Between tries at a commit that failed.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Writes outcomes until the end of the engine, which comes when all are written or too many seconds went by.
pub struct Recorder {
    shared: Arc<Shared>,
    outcomes: mpsc::Receiver<Outcome>,
}

impl Recorder {
    /// Reads from this channel.
    pub fn new(shared: Arc<Shared>, outcomes: mpsc::Receiver<Outcome>) -> Self {
        Self { shared, outcomes }
    }

    /// Runs until the end. While one group is being committed the next one gathers, so a group is as large
    /// as the database is slow and nobody waits for a timer.
    pub async fn run(mut self, end: Shutdown) {
        let most = self.shared.settings.record_batch;
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

    /// Outcomes of pages held as different nodes (before and after a lost lease) are written apart.
    async fn write(&self, outcomes: Vec<Outcome>) {
        let mut rest = outcomes;
        while let Some(first) = rest.first() {
            let node = first.item.page.node;
            let (group, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|o| o.item.page.node == node);
            rest = others;
            self.write_group(node, group).await;
        }
    }

    /// Writes a group. When the database refuses it, its halves are written apart, so that what it refuses for good
    /// is found and holds up nothing else.
    async fn write_group(&self, node: NodeId, outcomes: Vec<Outcome>) {
        let mut groups = vec![outcomes];
        while let Some(mut group) = groups.pop() {
            match self.commit(node, group.iter().map(entry).collect()).await {
                Ok(recorded) => self.settle(&group, &recorded),
                Err(_) if group.len() > 1 => {
                    groups.push(group.split_off(group.len() / 2));
                    groups.push(group);
                }
                Err(error) => self.write_plain(node, group, error).await,
            }
        }
    }

    /// Writes an outcome that the database refused without what the provider said, which is all of it that comes from
    /// outside. What is refused even so keeps its place in its page: it counts as sending and goes out again after the
    /// next start.
    async fn write_plain(&self, node: NodeId, group: Vec<Outcome>, refused: Error) {
        let plain = group.iter().map(|outcome| without_words(entry(outcome))).collect();
        match self.commit(node, plain).await {
            Ok(recorded) => self.settle(&group, &recorded),
            Err(_) => {
                let id = group.first().map(|outcome| outcome.item.id.to_string()).unwrap_or_default();
                tracing::error!(error = %refused, message = id, "the database refuses an outcome; it stays open until the next start");
                self.shared.metrics.unrecorded.sub(1);
            }
        }
    }

    /// Tries until the database takes it, or refuses just these values: an outcome that is not on disk would be sent
    /// again.
    async fn commit(&self, node: NodeId, entries: Arc<[Entry]>) -> Result<Recorded> {
        loop {
            let group = Arc::clone(&entries);
            let error = match self.shared.db.write(move |c| record::record(c, node, &group)).await {
                Ok(recorded) => return Ok(recorded),
                Err(error) => error,
            };
            self.shared.metrics.recorder_errors.inc();
            if refuses_values(&error) {
                return Err(error);
            }
            tracing::error!(%error, outcomes = entries.len(), "outcomes could not be recorded; trying again");
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// What is in memory follows what is on disk.
    fn settle(&self, outcomes: &[Outcome], recorded: &Recorded) {
        failpoint::reach("record-after-commit");
        self.shared.metrics.unrecorded.sub(i64::try_from(outcomes.len()).unwrap_or_default());
        for id in &recorded.lost {
            tracing::warn!(page = %id, "a page is another node's by now; its outcomes here were dropped");
            self.shared.pages.forget(*id);
        }
        self.shared.count_reports(recorded.reports);
        // what waits again, or is new: the report of a request
        let (mut waits, mut pages_done) = (recorded.reports > 0, false);
        for outcome in outcomes {
            let page = &outcome.item.page;
            self.shared.done(&outcome.item);
            if recorded.lost.contains(&page.id) {
                page.lose();
            }
            if recorded.messages.contains(&outcome.item.id) {
                if !outcome.is_deferral() {
                    self.shared.count(outcome.item.origin.channel(), outcome.kind, 1);
                }
                if let Some(class) = outcome.class {
                    self.shared.count_dead_letter(outcome.item.origin.channel(), class);
                }
                waits |= outcome.kind == OutcomeKind::Retry;
                self.tell(outcome);
            }
            match page.recorded(1) {
                PageState::Done => {
                    self.shared.pages.forget(page.id);
                    pages_done |= page.mailing.is_some();
                }
                PageState::Idle => {
                    self.shared.pages.set_idle(page.id);
                    pages_done = true;
                }
                PageState::Busy => {}
            }
        }
        if waits {
            self.shared.claim.notify_one();
        }
        if pages_done {
            self.shared.settle_soon();
        }
    }

    /// What became of a notification is told; a mailing's messages are too many, and nobody watches requests.
    fn tell(&self, outcome: &Outcome) {
        if let Origin::Single(single) = &outcome.item.origin
            && single.channel != ChannelKind::Request
        {
            let change = Change {
                id: outcome.item.id,
                batch: single.batch,
                channel: single.channel,
                // as the API shows one that was never tried and is due later
                status: match (outcome.is_deferral(), outcome.attempts) {
                    (true, 0) => NotificationStatus::Scheduled,
                    _ => status_after(outcome.kind).into(),
                },
                attempts: outcome.attempts,
                at: outcome.at,
            };
            self.shared.live.publish(&change, single.is_awaited);
        }
    }
}

/// The state that an outcome brings a message to.
fn status_after(outcome: OutcomeKind) -> MessageStatus {
    match outcome {
        OutcomeKind::Delivered => MessageStatus::Sent,
        OutcomeKind::Retry => MessageStatus::Queued,
        OutcomeKind::Failed => MessageStatus::Failed,
        OutcomeKind::Expired => MessageStatus::Expired,
        OutcomeKind::Cancelled => MessageStatus::Cancelled,
    }
}

/// The row that an outcome leaves.
fn entry(outcome: &Outcome) -> Entry {
    let item = &outcome.item;
    let status = status_after(outcome.kind);
    // a mailing's message expires with its mailing, and names it by its number
    let (expires_at, mailing_number) = match &item.origin {
        Origin::Mailing(run) => (None, Some(run.number)),
        Origin::Single(single) => (single.expires_at, None),
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
    let (page, mailing) = (item.page.id, item.page.mailing);
    let (class, event) = (outcome.class, item.origin.event());
    let ran = |tried: &Tried| Ran { executed_at: tried.began, response: tried.response.clone() };
    let ran = tried.filter(|_| item.origin.channel() == ChannelKind::Request).map(ran);
    Entry {
        page,
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

/// The entry without the words that came from outside.
fn without_words(mut entry: Entry) -> Entry {
    entry.row.provider_id = None;
    entry.ran = entry.ran.map(|ran| Ran { response: None, ..ran });
    entry.row.error =
        (entry.outcome != OutcomeKind::Delivered).then(|| "the database refused the reason".to_owned());
    entry
}

/// PostgreSQL's texts hold no NUL. A provider that sends one must not make the whole group impossible to record.
fn storable(text: Option<&str>) -> Option<String> {
    text.map(|text| text.replace('\0', "\u{fffd}"))
}
