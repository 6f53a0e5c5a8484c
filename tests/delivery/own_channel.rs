//! Runs the engine with a channel that a test defines.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare::channels::{AttemptFuture, AttemptReport, Channel, Delivery};
use fanfare::clients::model::ClientPatch;
use fanfare::clients::{Client, Clients};
use fanfare::clock::Clock;
use fanfare::db::types::MailingId;
use fanfare::db::{Db, DbOptions};
use fanfare::delivery::retry::{Retries, RetryPolicy};
use fanfare::delivery::{ChannelSetup, Engine, EngineSettings};
use fanfare::error::Result;
use fanfare::idempotency::{self, Created, Mode};
use fanfare::kinds::{ChannelKind, Priority};
use fanfare::lifecycle::{self, ShutdownTrigger};
use fanfare::live::Live;
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::model::MailingDraft;
use fanfare::mailings::usecase::Mailings;
use fanfare::messages::model::Counts;
use fanfare::metrics::Metrics;
use fanfare::runtime::Runtime;
use fanfare::templates::model::NewTemplate;
use fanfare::templates::{Templates, Texts};

use crate::delivery::bench::LONG;
use crate::support::{Database, TestDb};

/// A channel that returns the test's answers, and records its deliveries.
struct Script {
    kind: ChannelKind,
    answer: fn(&Delivery) -> AttemptReport,
    seen: Arc<Mutex<Vec<Delivery>>>,
}

impl Channel for Script {
    fn kind(&self) -> ChannelKind {
        self.kind
    }

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(async move {
            let answer = (self.answer)(&delivery);
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
            answer
        })
    }
}

/// A running engine with one channel.
pub struct Own {
    db: Db,
    kind: ChannelKind,
    engine: Engine,
    trigger: ShutdownTrigger,
    pub clients: Clients,
    mailings: Mailings,
    templates: Templates,
    seen: Arc<Mutex<Vec<Delivery>>>,
    test_db: TestDb,
}

/// Returns a response for a request without a key, which is not stored.
fn answer() -> Result<idempotency::IdempotentResponse> {
    idempotency::IdempotentResponse::new(201, None, &())
}

fn made<T>(made: Created<T>) -> T {
    match made {
        Created::New(made, _) => made,
        Created::Before(_) => unreachable!("there was no key"),
    }
}

fn settings() -> EngineSettings {
    EngineSettings {
        page_size: 100,
        lane_capacity: 100,
        record_batch: 100,
        poll: Duration::from_millis(20),
        claim_poll: Duration::from_millis(20),
        retry_after_max: Duration::from_secs(3600),
        lease: Duration::from_secs(10),
        shutdown: Duration::from_secs(10),
        quiet_zone: chrono_tz::Tz::UTC,
        links: None,
    }
}

/// The number of concurrent attempts.
pub const CONCURRENCY: usize = 4;

impl Own {
    pub async fn start(
        database: Database,
        kind: ChannelKind,
        answer: fn(&Delivery) -> AttemptReport,
    ) -> Self {
        let seen = Arc::default();
        let script = Script { kind, answer, seen: Arc::clone(&seen) };
        let metrics = Metrics::new().expect("metrics");
        Self { seen, ..Self::with_channel(database, metrics, Arc::new(script)).await }
    }

    /// Starts it with a channel that does not record deliveries for [`Own::seen`].
    pub async fn with_channel(database: Database, metrics: Metrics, channel: Arc<dyn Channel>) -> Self {
        let kind = channel.kind();
        let test_db = TestDb::new(database);
        let options = DbOptions::new(test_db.url.clone());
        let db =
            tokio::task::spawn_blocking(|| Db::open(options)).await.expect("a thread").expect("a database");
        let retry = RetryPolicy::exponential(Duration::from_millis(1), 2.0, 2);
        let setup = ChannelSetup {
            channel,
            timeout: Duration::from_secs(10),
            concurrency: CONCURRENCY,
            rate: None,
            breaker_failures: 0,
            retries: Retries { mailing: retry.clone(), single: retry },
        };
        let (trigger, shutdown) = lifecycle::shutdown();
        let runtime = Runtime { db: db.clone(), clock: Clock::System, metrics, live: Live::new(true) };
        let ends = (trigger.clone(), shutdown);
        let engine = Engine::start(runtime, settings(), vec![setup], ends).await.expect("an engine");
        let templates = Templates::new(db.clone(), Clock::System);
        Self {
            clients: Clients::new(db.clone(), Clock::System),
            mailings: Mailings::new(
                db.clone(),
                Clock::System,
                (engine.handle(), engine.handle()),
                HashMap::new(),
                templates.clone(),
            ),
            templates,
            db,
            kind,
            engine,
            trigger,
            seen: Arc::default(),
            test_db,
        }
    }

    pub async fn client(&self, phone: &str, fields: ClientPatch) -> Client {
        let phone_number = Some(Some(phone.parse().expect("a number")));
        let fields = ClientPatch { phone_number, ..fields };
        made(self.clients.create(fields, Mode::Commit(None), |_| answer()).await.expect("a client"))
    }

    /// Sends a mailing to all clients. Returns its final counts.
    pub async fn mail(&self, subject: Option<&str>, text: &str, html: Option<&str>) -> Counts {
        let (subject, html) = (subject.map(str::to_owned), html.map(str::to_owned));
        self.send(None, Texts { subject, text: text.to_owned(), html }).await
    }

    /// Sends a mailing like [`Own::mail`], with the texts of a template.
    pub async fn mail_template(&self, name: &str) -> Counts {
        let none = Texts { subject: None, text: String::new(), html: None };
        self.send(Some(name.to_owned()), none).await
    }

    /// Creates a template with this text.
    pub async fn template(&self, name: &str, locale: Option<&str>, text: &str) {
        let new = NewTemplate {
            name: name.to_owned(),
            channel: self.kind,
            locale: locale.map(|tag| tag.parse().expect("a tag")),
            texts: Texts { subject: None, text: text.to_owned(), html: None },
        };
        made(self.templates.create(new, Mode::Commit(None), |_| answer()).await.expect("a template"));
    }

    async fn send(&self, template: Option<String>, texts: Texts) -> Counts {
        self.ended(self.create(template, texts).await).await
    }

    /// Starts a mailing to all clients.
    pub async fn begin(&self, subject: Option<&str>, text: &str) -> MailingId {
        self.create(None, Texts { subject: subject.map(str::to_owned), text: text.to_owned(), html: None })
            .await
    }

    async fn create(&self, template: Option<String>, Texts { subject, text, html }: Texts) -> MailingId {
        let new = MailingDraft {
            template,
            text: Some(text),
            subject,
            html,
            filter: AudienceFilter::default(),
            channel: self.kind,
            priority: Priority::Normal,
            starts_at: None,
            ends_at: Some(Clock::System.now().plus(LONG)),
            rate_per_second: None,
            group: None,
            is_transactional: false,
        };
        made(self.mailings.create(new, None, |_, _| answer()).await.expect("a mailing")).id
    }

    /// Waits for a mailing's end. Returns its final counts.
    pub async fn ended(&self, id: MailingId) -> Counts {
        let began = Instant::now();
        loop {
            let mailing = self.mailings.get(id).await.expect("the mailing");
            if mailing.finished_at.is_some() {
                return mailing.counts;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", mailing.counts);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the deliveries of the channel, in the order of the addresses.
    pub fn seen(&self) -> Vec<Delivery> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.sort_by(|a, b| a.recipient.cmp(&b.recipient));
        seen
    }

    pub fn test_db(&self) -> &TestDb {
        &self.test_db
    }

    pub fn database(&self) -> &Db {
        &self.db
    }

    pub async fn stop(self) {
        self.trigger.fire();
        self.engine.stop().await;
    }
}
