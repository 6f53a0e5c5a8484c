//! What the engine's tasks share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::announce::Announcer;
use super::gate::Gate;
use super::lanes::Lanes;
use super::model::{Item, OpenPage, Outcome, PageState, Run};
use super::pages::{Lease, Pages, Runs};
use super::recall::Recalls;
use super::valve::Valve;
use crate::clock::Clock;
use crate::db::types::{MailingId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::kinds::{ChannelKind, ErrorClass, OutcomeKind, Priority};
use crate::live::Live;
use crate::mailings::repo;
use crate::metrics::Metrics;
use crate::preferences::link::Links;
use crate::templates::Pool;

/// Sizes and times.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Recipients planned in one transaction.
    pub page_size: usize,
    /// Messages held for one channel and priority.
    pub lane_capacity: usize,
    /// Outcomes in one group commit.
    pub record_batch: usize,
    /// How often the safety nets look.
    pub poll: Duration,
    /// How often what is due is looked for, whatever was said.
    pub claim_poll: Duration,
    /// The longest wait that the other side of a channel is granted before the next attempt.
    pub retry_after_max: Duration,
    /// For how long a node's pages are its own without a heartbeat.
    pub lease: Duration,
    /// How long what is in flight may take to end.
    pub shutdown: Duration,
    /// The clock of clients without a time zone.
    pub quiet_zone: chrono_tz::Tz,
    /// Makes the links to unsubscribe, if recipients can reach the service.
    pub links: Option<Arc<Links>>,
}

/// What the engine's tasks share.
pub struct Shared {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Metrics,
    /// Who is told what becomes of notifications.
    pub live: Live,
    /// Sizes and times.
    pub settings: Settings,
    /// The threads that fill mailings' texts.
    pub renderers: Pool,
    /// The lanes of each channel.
    pub lanes: BTreeMap<ChannelKind, Arc<Lanes>>,
    /// Whether each channel's provider can be asked.
    pub gates: BTreeMap<ChannelKind, Arc<Gate>>,
    /// The mailings at work.
    pub runs: Runs,
    /// The pages in hand.
    pub pages: Pages,
    /// Held from storing pages until they are in hand.
    pub adopting: tokio::sync::Mutex<()>,
    /// Until when this node may send.
    pub lease: Lease,
    /// Shut while all sending is paused.
    pub valve: Valve,
    /// How many nodes are alive, this one among them.
    pub nodes: AtomicU32,
    /// Wakes the feeder.
    pub feed: Arc<Notify>,
    /// Wakes the claimer.
    pub claim: Notify,
    /// Another node's caller cancels what may be in a lane here.
    pub withdrawn: Notify,
    /// Recalls that were asked for.
    pub recalls: Recalls,
    /// A mailing changed: look at all of them.
    pub changed: AtomicBool,
    /// A page was done: some mailing may be.
    pub page_done: AtomicBool,
    /// Tells the other nodes.
    pub announcer: Arc<Announcer>,
    /// To the recorder.
    pub outcomes: mpsc::Sender<Outcome>,
}

impl Shared {
    /// A mailing changed in the database: the feeder looks at once.
    pub fn mailing_changed(&self) {
        self.changed.store(true, Ordering::Release);
        self.feed.notify_one();
    }

    /// Sending was paused or resumed: the feeder takes back what waits in the lanes, or fills them.
    pub fn valve_was_turned(&self) {
        self.feed.notify_one();
        self.claim.notify_one();
    }

    /// Some mailing may be finished: the feeder looks at once.
    pub fn settle_soon(&self) {
        self.page_done.store(true, Ordering::Release);
        self.feed.notify_one();
    }

    /// Hands an outcome to the recorder; waits while it is behind.
    pub async fn record(&self, outcome: Outcome) {
        self.metrics.unrecorded.inc();
        if self.outcomes.send(outcome).await.is_err() {
            // the recorder ends last; only a forced stop comes here, and its pages are taken over at the next start
            tracing::error!("the recorder has stopped before an outcome reached it");
        }
    }

    /// Puts the messages of a stored page into their lane.
    pub fn push(&self, page: &Arc<OpenPage>, (channel, priority): (ChannelKind, Priority), items: Vec<Item>) {
        if let Some(lanes) = self.lanes.get(&channel) {
            self.pages.admit(page, || lanes.push(priority, page.mailing, items));
        }
    }

    /// Puts a message back into its lane: it was taken out, and its provider takes nothing for now.
    /// One that was cancelled meanwhile ends instead.
    pub async fn put_back(&self, item: Item) {
        let lanes = self.lanes.get(&item.origin.channel());
        let withdrawn =
            lanes.and_then(|lanes| lanes.put_back(item.origin.priority(), item.page.mailing, item));
        self.cancel(withdrawn.into_iter().collect()).await;
    }

    /// The outcome of a message that was taken from its lane is on disk, or nothing becomes of it here.
    pub fn done(&self, item: &Item) {
        if let Some(lanes) = self.lanes.get(&item.origin.channel()) {
            lanes.done(item);
        }
    }

    /// For how long nothing of this channel is to be held in memory; zero when it is to be fed.
    pub fn rest(&self, channel: ChannelKind) -> Duration {
        if self.valve.is_shut() {
            return self.settings.poll;
        }
        self.gates.get(&channel).map_or(Duration::ZERO, |gate| gate.rest())
    }

    /// Takes messages back that were not tried.
    pub fn give_back(&self, items: Vec<Item>) {
        for item in items {
            if item.page.returned(1) == PageState::Idle {
                self.pages.set_idle(item.page.id);
                self.feed.notify_one();
            }
        }
    }

    /// The mailing at work, read from the database when it is new here.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run(&self, id: MailingId) -> Result<Arc<Run>> {
        match self.runs.get(id) {
            Some(run) => Ok(run),
            None => {
                let read = move |c: &mut AnyConnection| Ok((repo::get(c, id)?, repo::number(c, id)?));
                let (mut mailing, number) = self.db.read(read).await?;
                mailing.rate_per_second = self.part_of(mailing.rate_per_second);
                Ok(self.runs.add(Run::new(mailing, number)))
            }
        }
    }

    /// This node's part of a mailing's own rate: all nodes alive have the same.
    pub fn part_of(&self, rate: Option<f64>) -> Option<f64> {
        rate.map(|rate| rate / f64::from(self.nodes.load(Ordering::Acquire).max(1)))
    }

    /// Counts a message that became a dead letter.
    pub fn count_dead_letter(&self, channel: ChannelKind, class: ErrorClass) {
        self.metrics.dead_letters.with_label_values(&[channel.as_str(), class.as_str()]).inc();
    }

    /// Counts reports of requests' results, which are messages that nobody asked for by themselves.
    pub fn count_reports(&self, reports: usize) {
        self.metrics.entered(ChannelKind::Request, reports);
    }

    /// Counts final states and retries.
    pub fn count(&self, channel: ChannelKind, kind: OutcomeKind, messages: usize) {
        let counter = match kind {
            OutcomeKind::Delivered => &self.metrics.sent,
            OutcomeKind::Retry => &self.metrics.retries,
            OutcomeKind::Failed => &self.metrics.failed,
            OutcomeKind::Expired => &self.metrics.expired,
            OutcomeKind::Cancelled => &self.metrics.cancelled,
        };
        counter.with_label_values(&[channel.as_str()]).inc_by(u64::try_from(messages).unwrap_or_default());
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
