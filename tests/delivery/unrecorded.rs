//! The bound of attempts that are not recorded yet, which a crash repeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Instant;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use fanfare::channels::{AttemptFuture, AttemptReport, Channel, Delivery, MAX_UNRECORDED};
use fanfare::kinds::ChannelKind;
use fanfare::metrics::Metrics;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::delivery::channels::fields;
use crate::delivery::own_channel::{CONCURRENCY, Own};
use crate::support::TestDb;
use crate::support::api::{LOOK, PATIENCE};

/// A provider that does not drop repeats, and responds after it is opened.
struct Held {
    metrics: Metrics,
    open: Semaphore,
    attempts: AtomicUsize,
    /// The largest number of unrecorded attempts when another one began.
    most: AtomicI64,
}

impl Channel for Held {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Email
    }

    fn send(&self, _: Delivery) -> AttemptFuture<'_> {
        self.most.fetch_max(self.metrics.unrecorded.get(), Ordering::AcqRel);
        self.attempts.fetch_add(1, Ordering::AcqRel);
        Box::pin(async {
            let _open = self.open.acquire().await;
            AttemptReport::delivered(Some(250), None)
        })
    }

    fn drops_repeats(&self) -> bool {
        false
    }
}

/// A lock that keeps the service from recording outcomes until it is released.
enum Lock {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Lock {
    fn new(database: &TestDb) -> Self {
        match database.url.strip_prefix("sqlite://") {
            Some(path) => {
                let mut c = SqliteConnection::establish(path).expect("a connection");
                c.batch_execute("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE").expect("the lock");
                Self::Sqlite(c)
            }
            None => {
                let mut c = PgConnection::establish(&database.url).expect("a connection");
                c.batch_execute("BEGIN; LOCK TABLE message IN ACCESS EXCLUSIVE MODE").expect("the lock");
                Self::Postgres(c)
            }
        }
    }

    fn release(self) {
        match self {
            Self::Postgres(mut c) => c.batch_execute("ROLLBACK"),
            Self::Sqlite(mut c) => c.batch_execute("ROLLBACK"),
        }
        .expect("the end of the lock");
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(LOOK).await;
    }
}

crate::on_each_database! {
    async fn for_a_peer_that_does_not_drop_repeats_attempts_wait_for_their_records(kind: Database) {
        const CLIENTS: usize = 400;
        let metrics = Metrics::new().expect("metrics");
        let held = Arc::new(Held {
            metrics: metrics.clone(),
            open: Semaphore::new(0),
            attempts: AtomicUsize::default(),
            most: AtomicI64::default(),
        });
        let engine = Own::with_channel(kind, metrics.clone(), held.clone()).await;
        for number in 0..CLIENTS {
            let email = json!({"email": format!("user{number}@example.com")});
            engine.client(&format!("{}", 79_030_000_000 + number), fields(email)).await;
        }
        let mailing = engine.begin(Some("Hello"), "Hello").await;
        let lane = metrics.lane_depth.with_label_values(&["email", "normal"]);
        let attempts = || held.attempts.load(Ordering::Acquire);
        // more than the bound, so that attempts wait for the records, not for the lane
        until("the lane is full", || attempts() == CONCURRENCY && lane.get() > 90).await;
        let lock = Lock::new(engine.test_db());
        held.open.add_permits(Semaphore::MAX_PERMITS);
        let bound = MAX_UNRECORDED + CONCURRENCY;
        let unrecorded = || usize::try_from(metrics.unrecorded.get()).unwrap_or_default();
        until("attempts continue without a record", || unrecorded() >= bound).await;
        assert_eq!((unrecorded(), attempts()), (bound, bound));
        lock.release();
        let books = engine.ended(mailing).await;
        assert_eq!((books.sent, attempts()), (400, CLIENTS));
        let most = held.most.load(Ordering::Acquire);
        assert!(most < i64::try_from(bound).expect("a small number"), "{most} waited for their record");
        engine.stop().await;
    }
}
