//! Runs lanes, leases and recorder in the orders of hundreds of seeds: no task misses a wake-up, and each message comes
//! exactly once. The poll interval is an hour here, so all progress comes from wake-ups.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::{ExpressionMethods, QueryDsl, RunQueryDsl};
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::interleaving::{Task, run};
use crate::clients::model::{Client, ClientPatch};
use crate::clock::Clock;
use crate::db::schema::message;
use crate::db::types::{ClientId, MailingId, MessageId, NodeId};
use crate::db::{AnyConnection, Db, DbOptions};
use crate::delivery::active_mailing::MailingState;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::tests::{self as items, mailing};
use crate::delivery::model::{AttemptDetails, Outcome, QueuedMessage};
use crate::delivery::parts::EngineParts;
use crate::delivery::settings::{EngineSettings, LaneSetup};
use crate::kinds::{ChannelKind, OutcomeKind, Priority};
use crate::lifecycle::{Shutdown, shutdown};
use crate::live::Live;
use crate::mailings::model::{Audience, Mailing, MailingStatus};
use crate::mailings::repo;
use crate::metrics::Metrics;
use crate::runtime::Runtime;

/// Runs a feeder, which also removes messages again, and a dispatcher, which puts some back.
fn lanes_at_work(seed: u64, metrics: &Metrics) -> Result<(), String> {
    const EACH: usize = 15;
    let drained = Arc::new(Notify::new());
    let lanes = Lanes::new(ChannelKind::Sms, 8, Arc::clone(&drained), metrics);
    let runs =
        [Priority::Normal, Priority::Normal, Priority::High].map(|priority| items::run(priority, None));
    let feeder = async {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut left = runs.each_ref().map(|run| items::items(run, EACH));
        while left.iter().any(|left| !left.is_empty()) {
            let mut worked = false;
            for (run, left) in runs.iter().zip(&mut left) {
                if chance.u8(0..8) == 0 {
                    left.extend(lanes.drain(Some(run.id)));
                }
                let count = lanes.wanted(run, 2).min(left.len()).min(3);
                lanes.push(run.priority, Some(run.id), left.drain(..count).collect());
                worked |= count > 0;
            }
            if !worked {
                drained.notified().await;
            }
        }
    };
    let mut taken = HashSet::new();
    let dispatcher = async {
        let mut chance = fastrand::Rng::with_seed(seed + 1);
        while taken.len() < runs.len() * EACH {
            lanes.wait().await;
            match lanes.take() {
                Some(item) if chance.u8(0..4) == 0 => {
                    lanes.put_back(item.origin.priority(), item.origin.mailing(), item);
                }
                Some(item) => assert!(taken.insert(item.id), "it came twice"),
                None => {}
            }
        }
    };
    let tasks: Vec<Task<'_>> = vec![("feeder", Box::pin(feeder)), ("dispatcher", Box::pin(dispatcher))];
    run(seed, tasks, Duration::ZERO, || false)?;
    let left = lanes.drain_all().len();
    if left > 0 { Err(format!("seed {seed}: {left} are left")) } else { Ok(()) }
}

#[test]
fn a_task_that_waits_for_a_lane_is_woken_and_gets_each_message_once() {
    let metrics = Metrics::new().unwrap();
    for seed in 0..400 {
        lanes_at_work(seed, &metrics).unwrap();
    }
}

const CLIENTS: i64 = 24;

/// A database with clients.
struct Stage {
    db: Db,
    last: ClientId,
    _directory: TempDir,
}

impl Stage {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let url = format!("sqlite://{}", directory.path().join("model.db").display());
        Self { db: Db::open(DbOptions::new(url)).unwrap(), last: ClientId::new(), _directory: directory }
    }

    async fn fill(&mut self) {
        let now = Clock::System.now();
        let clients: Vec<Client> = (0..CLIENTS)
            .map(|n| {
                let number = format!("{}", 79_030_000_000 + n).parse().unwrap();
                let patch = ClientPatch { phone_number: Some(Some(number)), ..ClientPatch::default() };
                Client::create(ClientId::new(), &patch, now).unwrap()
            })
            .collect();
        self.last = clients.last().unwrap().id;
        let store = move |c: &mut AnyConnection| crate::clients::repo::store_many(c, &clients, &[]);
        self.db.write(store).await.unwrap();
    }

    /// Starts a mailing to all of them.
    async fn mailing(&self) -> MailingId {
        let now = Clock::System.now();
        let mailing = Mailing {
            starts_at: now,
            ends_at: now.plus(Duration::from_hours(1)),
            created_at: now,
            started_at: Some(now),
            ..mailing(Priority::Normal, None)
        };
        let (id, audience) = (mailing.id, Audience { total: CLIENTS, upper_bound: Some(self.last) });
        self.db.write(move |c| repo::insert(c, &mailing, Some(audience))).await.unwrap();
        id
    }

    /// Creates the engine's parts, with leases, lanes and groups so small that they are always full.
    async fn parts(&self, metrics: &Metrics) -> (EngineParts, mpsc::Receiver<Outcome>) {
        const HOUR: Duration = Duration::from_hours(1);
        let settings = EngineSettings {
            page_size: 5,
            lane_capacity: 8,
            record_batch: 3,
            poll: HOUR,
            claim_poll: HOUR,
            retry_after_max: HOUR,
            lease: HOUR,
            shutdown: HOUR,
            quiet_zone: chrono_tz::Tz::UTC,
            links: None,
        };
        let id = NodeId::new();
        let runtime = Runtime {
            db: self.db.clone(),
            clock: Clock::System,
            metrics: metrics.clone(),
            live: Live::new(true),
        };
        let lanes = LaneSetup { channel: ChannelKind::Sms, rate: None, breaker_failures: 0 };
        let (parts, received) = EngineParts::new(runtime, settings, &[lanes], id, false);
        parts.heartbeat(Arc::default()).register(id).await.unwrap();
        (parts, received)
    }
}

/// Does the work of a sender: returns messages of a paused mailing, puts messages back as for a throttling provider,
/// and sends the rest.
async fn send(
    parts: &EngineParts,
    mut items: mpsc::Receiver<QueuedMessage>,
    sent: &Mutex<Vec<MessageId>>,
    seed: u64,
) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let places = Arc::new(Semaphore::new(2));
    while let Some(item) = items.recv().await {
        if item.origin.state(Clock::System.now()) == MailingState::Paused {
            parts.leases.give_back(&item.lease);
        } else if chance.u8(0..6) == 0 {
            let (key, priority) = (item.lease.mailing, item.origin.priority());
            let withdrawn = parts.queues.lanes(ChannelKind::Sms).unwrap().put_back(priority, key, item);
            assert!(withdrawn.is_none(), "only standalone messages are withdrawn");
        } else {
            let place = Arc::clone(&places).acquire_owned().await.ok();
            sent.lock().unwrap().push(item.id);
            let outcome = Outcome {
                attempts: 1,
                kind: OutcomeKind::Delivered,
                at: Clock::System.now(),
                due_at: None,
                tried: Some(AttemptDetails::default()),
                error: None,
                class: None,
                place,
                item,
            };
            parts.outcomes.record(outcome).await;
        }
    }
}

async fn dispatch(parts: &EngineParts, senders: [mpsc::Sender<QueuedMessage>; 2]) {
    let lanes = parts.queues.lanes(ChannelKind::Sms).unwrap();
    for sender in senders.iter().cycle() {
        let item = loop {
            lanes.wait().await;
            if let Some(item) = lanes.take() {
                break item;
            }
        };
        sender.send(item).await.unwrap();
    }
}

/// Pauses and resumes the mailing while it is running.
async fn pause(parts: &EngineParts, id: MailingId, seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    for (from, to) in
        [(MailingStatus::Running, MailingStatus::Paused), (MailingStatus::Paused, MailingStatus::Running)]
            .repeat(2)
    {
        for _ in 0..chance.u8(0..60) {
            tokio::task::yield_now().await;
        }
        let set = move |c: &mut AnyConnection| match repo::get(c, id)?.status {
            status if status == from => repo::set_status(c, id, to, Clock::System.now()),
            _ => Ok(()),
        };
        parts.runtime.db.write(set).await.unwrap();
        parts.feeder_signal.mailing_changed();
    }
}

/// Runs the real feeder and recorder on a real database, with senders between them.
async fn engine_at_work(stage: &Stage, metrics: &Metrics, seed: u64) -> Result<(), String> {
    let id = stage.mailing().await;
    let (parts, received) = stage.parts(metrics).await;
    parts.mailings.load(id).await.unwrap();
    let (_trigger, never): (_, Shutdown) = shutdown();
    let (one, of_one) = mpsc::channel(1);
    let (other, of_other) = mpsc::channel(1);
    let sent = Mutex::default();
    let tasks: Vec<Task<'_>> = vec![
        ("feeder", Box::pin(parts.feeder().run(never.clone()))),
        ("recorder", Box::pin(parts.recorder(received).run(never))),
        ("dispatcher", Box::pin(dispatch(&parts, [one, other]))),
        ("one sender", Box::pin(send(&parts, of_one, &sent, seed))),
        ("other sender", Box::pin(send(&parts, of_other, &sent, seed + 1))),
        ("pauser", Box::pin(pause(&parts, id, seed + 2))),
    ];
    run(seed, tasks, Duration::from_secs(10), || parts.mailings.get(id).is_none())?;

    let read = move |c: &mut AnyConnection| {
        let number = repo::number(c, id)?;
        let rows: i64 = message::table.filter(message::mailing_number.eq(number)).count().get_result(c)?;
        Ok((repo::get(c, id)?, rows))
    };
    let (mailing, rows) = stage.db.read(read).await.unwrap();
    let sent = sent.into_inner().unwrap();
    let distinct = sent.iter().collect::<HashSet<_>>().len();
    let counts = [mailing.counts.sent, rows, sent.len() as i64, distinct as i64];
    let left = (parts.leases.held().len(), parts.outcomes.unrecorded().count());
    if counts != [CLIENTS; 4] || left != (0, 0) || mailing.status != MailingStatus::Finished {
        return Err(format!("seed {seed}: {counts:?} of {CLIENTS}, {left:?} left, {}", mailing.status));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn feeder_senders_pauses_and_recorder_finish_a_mailing_in_any_order() {
    let metrics = Metrics::new().unwrap();
    let mut stage = Stage::new();
    stage.fill().await;
    for seed in 0..40 {
        engine_at_work(&stage, &metrics, seed).await.unwrap();
    }
}
