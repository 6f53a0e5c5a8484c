//! The state machine of a mailing: for any requests in any order, the service behaves like a small model.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fanfare::clock::Clock;
use fanfare::db::types::{MailingId, Timestamp};
use fanfare::db::{Db, DbOptions};
use fanfare::error::Error;
use fanfare::idempotency::{Created, IdempotentResponse};
use fanfare::kinds::{ChannelKind, Priority};
use fanfare::live::Live;
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::model::MailingStatus::{self, Cancelled, Finished, Paused, Pending, Running};
use fanfare::mailings::model::{Mailing, MailingChange, MailingDraft};
use fanfare::mailings::repo;
use fanfare::mailings::usecase::{ChannelRates, Mailings, Wakeup};
use fanfare::metrics::Metrics;
use fanfare::pending_mailing::watchdog::Watchdog;
use fanfare::runtime::Runtime;
use fanfare::templates::Templates;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::sync::Notify;

use crate::support::{Database, TestDb};

/// A wake-up without an effect: the test polls by itself.
struct Nobody;

impl Wakeup for Nobody {
    fn mailing_changed(&self) {}
    fn mailing_stopped(&self, _id: MailingId, _status: MailingStatus) {}
    fn pending_changed(&self) {}
}

impl ChannelRates for Nobody {
    fn rate(&self, _channel: ChannelKind) -> Option<f64> {
        None
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Pause,
    Resume,
    Cancel,
    Delete,
    Text,
    /// Sets the end to this number of seconds from now.
    End(u64),
    /// Advances the clock by this number of seconds, and runs the watchdog.
    Wait(u64),
    /// Finalizes the counts, as the engine does, because the audience is empty.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Pause),
        3 => Just(Step::Resume),
        1 => Just(Step::Cancel),
        1 => Just(Step::Delete),
        1 => Just(Step::Text),
        2 => (0..30_u64).prop_map(Step::End),
        3 => (0..15_u64).prop_map(Step::Wait),
        1 => Just(Step::Settle),
    ]
}

/// The expected state of a mailing, with times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Model {
    status: MailingStatus,
    is_started: bool,
    is_settled: bool,
    starts_at: u64,
    ends_at: u64,
}

impl Model {
    /// Takes a step at this second. Returns true if it is allowed, and the new state, or `None` for a deleted mailing.
    fn take(mut self, step: Step, now: u64) -> (bool, Option<Self>) {
        let is_over = matches!(self.status, Finished | Cancelled);
        let is_closed = self.is_started && self.ends_at <= now;
        let is_allowed = match step {
            Step::Pause => matches!(self.status, Pending | Running),
            Step::Resume => self.status == Paused,
            Step::Cancel => !is_over,
            Step::Delete => !is_over && !self.is_started,
            Step::Text => !is_over && !self.is_started && self.ends_at > now,
            Step::End(from_now) => !is_over && !is_closed && from_now > 0 && now + from_now > self.starts_at,
            Step::Wait(_) | Step::Settle => true,
        };
        if !is_allowed {
            return (false, Some(self));
        }
        match step {
            Step::Pause => self.status = Paused,
            Step::Resume => self.status = if self.is_started { Running } else { Pending },
            Step::Cancel => {
                self.status = Cancelled;
                self.is_settled |= !self.is_started;
            }
            Step::Delete => return (true, None),
            Step::End(from_now) => self.ends_at = now + from_now,
            Step::Wait(_) if !is_over && !self.is_started && self.starts_at <= now => {
                if self.status == Pending || self.ends_at <= now {
                    (self.status, self.is_started) = (Running, true);
                }
            }
            Step::Settle if self.is_started && !self.is_settled => {
                self.is_settled = true;
                self.status = if self.status == Cancelled { Cancelled } else { Finished };
            }
            Step::Text | Step::Wait(_) | Step::Settle => {}
        }
        (true, Some(self))
    }
}

struct Stage {
    db: Db,
    clock: Clock,
    mailings: Mailings,
    watchdog: Watchdog,
}

impl Stage {
    async fn take(&self, id: MailingId, step: Step, now: u64) -> Result<(), Error> {
        match step {
            Step::Pause => self.mailings.pause(id).await.map(drop),
            Step::Resume => self.mailings.resume(id).await.map(drop),
            Step::Cancel => self.mailings.cancel(id).await.map(drop),
            Step::Delete => self.mailings.delete(id).await,
            Step::Text => {
                self.patch(id, MailingChange { text: Some("other".into()), ..Default::default() }).await
            }
            Step::End(from_now) => {
                let ends_at = Some(second(now + from_now));
                self.patch(id, MailingChange { ends_at, ..Default::default() }).await
            }
            Step::Wait(_) => self.watchdog.run_once().await.map(drop),
            Step::Settle => {
                let (at, started) = (second(now), self.mailings.get(id).await?.started_at.is_some());
                // the engine sees only started mailings
                if started {
                    self.db.write(move |c| repo::finalize(c, id, at)).await.map(drop)
                } else {
                    Ok(())
                }
            }
        }
    }

    async fn patch(&self, id: MailingId, change: MailingChange) -> Result<(), Error> {
        self.mailings.patch(id, change).await.map(drop)
    }

    /// Takes all steps, and compares each with the model.
    async fn live(&self, starts_in: u64, lasts: u64, steps: Vec<Step>) {
        let mut now = 1000;
        self.clock.set(second(now));
        let starts_at = now + starts_in;
        let new = MailingDraft {
            template: None,
            text: Some("hello".into()),
            subject: None,
            html: None,
            filter: AudienceFilter::default(),
            channel: ChannelKind::Sms,
            priority: Priority::Normal,
            starts_at: Some(second(starts_at)),
            ends_at: Some(second(starts_at + lasts)),
            rate_per_second: None,
            group: None,
            is_transactional: false,
        };
        let answer = |_: &_, _| IdempotentResponse::new(201, None, &());
        let Created::New(mailing, _) = self.mailings.create(new, None, answer).await.expect("a mailing")
        else {
            panic!("it was made before");
        };
        let id = mailing.id;
        let is_started = starts_in == 0;
        let status = if is_started { Running } else { Pending };
        let mut model =
            Model { status, is_started, is_settled: false, starts_at, ends_at: starts_at + lasts };
        let mut past = Vec::new();
        for step in steps {
            if let Step::Wait(seconds) = step {
                now += seconds;
                self.clock.set(second(now));
            }
            past.push((now, step));
            let (is_allowed, next) = model.take(step, now);
            let taken = self.take(id, step, now).await;
            let is_refused = matches!(taken, Err(Error::Conflict(_) | Error::Invalid(_)));
            assert_eq!(
                (taken.is_ok(), is_refused),
                (is_allowed, !is_allowed),
                "{model:?}, {past:?}: {taken:?}"
            );
            let found = self.mailings.get(id).await;
            let Some(next) = next else {
                assert!(matches!(found, Err(Error::NotFound { .. })), "{past:?}: {found:?}");
                return;
            };
            model = next;
            assert_eq!(seen(&found.expect("a mailing")), model, "{past:?}");
        }
    }
}

/// Converts a mailing to the model.
fn seen(mailing: &Mailing) -> Model {
    let second = |at: Timestamp| u64::try_from(at.micros() / 1_000_000).expect("a time after the epoch");
    Model {
        status: mailing.status,
        is_started: mailing.started_at.is_some(),
        is_settled: mailing.finished_at.is_some(),
        starts_at: second(mailing.starts_at),
        ends_at: second(mailing.ends_at),
    }
}

fn second(at: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(at * 1_000_000).expect("a small number"))
}

fn all_lives(kind: Database) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let database = TestDb::new(kind);
    let db = Db::open(DbOptions::new(&database.url)).expect("a database");
    let (clock, nobody) = (Clock::manual(second(1000)), Arc::new(Nobody));
    let (metrics, wake) = (Metrics::new().expect("metrics"), Arc::new(Notify::new()));
    let handles = Runtime { db: db.clone(), clock: clock.clone(), metrics, live: Live::new(true) };
    let watchdog = Watchdog::new(handles, nobody.clone(), Duration::from_secs(1), wake);
    let templates = Templates::new(db.clone(), clock.clone());
    let mailings =
        Mailings::new(db.clone(), clock.clone(), (nobody.clone(), nobody), HashMap::new(), templates);
    let stage = Stage { db, clock, mailings, watchdog };
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let lives = (0..20_u64, 1..30_u64, prop::collection::vec(step(), 1..14));
    let checked = TestRunner::new(config).run(&lives, |(starts_in, lasts, steps)| {
        runtime.block_on(stage.live(starts_in, lasts, steps));
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}

#[test]
fn a_mailing_behaves_like_its_model_on_sqlite() {
    all_lives(Database::Sqlite);
}

#[test]
fn a_mailing_behaves_like_its_model_on_postgres() {
    all_lives(Database::Postgres);
}
