//! One message that cannot be handled holds up no other: a defect in sending it, an outcome that the database refuses.

use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use fanfare::channels::{Answer, Channel, Delivery, Sending, Verdict};
use fanfare::clients::model::ClientPatch;
use fanfare::clients::usecase::Clients;
use fanfare::clock::Clock;
use fanfare::db::{AnyConnection, Db, DbOptions};
use fanfare::delivery::engine::{ChannelSetup, Engine};
use fanfare::delivery::retry::RetryPolicy;
use fanfare::delivery::shared::Settings;
use fanfare::error::Result;
use fanfare::idempotency::{self, Made};
use fanfare::kinds::{ChannelKind, MessageStatus, Priority};
use fanfare::lifecycle;
use fanfare::live::Live;
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::model::NewMailing;
use fanfare::mailings::usecase::Mailings;
use fanfare::metrics::Metrics;

use crate::bench::{Bench, LONG};
use crate::scripted::{Reply, Scripted};
use crate::support::TestDb;

/// Panics for one recipient, takes everybody else's message.
struct Panics;

impl Channel for Panics {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Sms
    }

    fn send(&self, delivery: Delivery) -> Sending<'_> {
        Box::pin(async move {
            assert!(!delivery.recipient.ends_with('3'), "this is the defect");
            Answer { verdict: Verdict::Delivered, status_code: Some(200), provider_id: None }
        })
    }
}

/// What is stored under a key, of which there is none.
fn answer() -> Result<idempotency::Answer> {
    idempotency::Answer::new(201, None, &())
}

fn settings() -> Settings {
    Settings {
        page_size: 100,
        lane_capacity: 100,
        record_batch: 100,
        poll: Duration::from_millis(20),
        claim_poll: Duration::from_millis(20),
        lease: Duration::from_secs(10),
        shutdown: Duration::from_secs(10),
        retry: RetryPolicy::exponential(Duration::from_millis(1), 2.0, 2),
        single_retry: RetryPolicy::exponential(Duration::from_millis(1), 2.0, 2),
    }
}

crate::on_each_database! {
    async fn a_panic_while_sending_is_an_attempt_that_failed_and_the_others_go_out(kind: Database) {
        let test_db = TestDb::new(kind);
        let options = DbOptions::new(test_db.url.clone());
        let db = tokio::task::spawn_blocking(|| Db::open(options)).await.expect("a thread").expect("a database");
        let metrics = Metrics::new().expect("metrics");
        let (trigger, shutdown) = lifecycle::shutdown();
        let setup = ChannelSetup {
            channel: Arc::new(Panics),
            timeout: Duration::from_secs(10),
            concurrency: 4,
            rate: None,
            breaker_failures: 0,
        };
        let parts = (db.clone(), Clock::System, metrics, Live::new(true));
        let engine = Engine::start(parts, settings(), vec![setup], (trigger.clone(), shutdown))
            .await
            .expect("an engine");
        let clients = Clients::new(db.clone(), Clock::System);
        for last in 0..10 {
            let number = format!("7903000000{last}").parse().expect("a number");
            clients.create(number, ClientPatch::default(), None, |_| answer()).await.expect("a client");
        }
        let mailings = Mailings::new(db.clone(), Clock::System, engine.handle(), engine.handle());
        let new = NewMailing {
            text: "hello".into(),
            filter: AudienceFilter::default(),
            channel: ChannelKind::Sms,
            priority: Priority::Normal,
            starts_at: None,
            ends_at: Clock::System.now().plus(LONG),
            rate_per_second: None,
        };
        let Made::New(mailing, _) = mailings.create(new, None, |_| answer()).await.expect("a mailing") else {
            panic!("it was made before");
        };
        let id = mailing.id;
        let began = std::time::Instant::now();
        let books = loop {
            let mailing = mailings.get(id).await.expect("the mailing");
            if mailing.finished_at.is_some() {
                break mailing.counts;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", mailing.counts);
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!((books.sent, books.failed, books.total), (9, 1, 10));
        trigger.fire();
        engine.stop().await;
    }
}

/// Makes the database refuse every message for which this is true (`NEW` is the row).
async fn refuse(bench: &Bench, condition: &'static str) {
    let write = bench.database().write(move |c| {
        let sql = match c {
            AnyConnection::Sqlite(_) => ["INSERT", "UPDATE"]
                .map(|verb| {
                    format!(
                        "CREATE TRIGGER refuse_{verb} BEFORE {verb} ON message WHEN {condition} \
                         BEGIN SELECT RAISE(ABORT, 'value out of range'); END;"
                    )
                })
                .concat(),
            AnyConnection::Postgres(_) => format!(
                "ALTER TABLE message ADD CONSTRAINT refuse CHECK (({}) IS NOT TRUE)",
                condition.replace("NEW.", "")
            ),
        };
        Ok(c.batch_execute(&sql)?)
    });
    write.await.expect("a constraint");
}

const ODD: &[Reply] = &[Reply::Http(200, "", r#"{"code":0,"message":"OK","id":"odd"}"#)];

crate::on_each_database! {
    async fn what_a_provider_says_never_keeps_a_message_from_its_final_state(kind: Database) {
        let provider = Scripted::start(ODD).await;
        let bench = Bench::start(kind, &[("sms.base_url", &provider.base)]).await;
        refuse(&bench, "NEW.provider_id = 'odd' AND NEW.recipient LIKE '%7'").await;
        bench.import(30, "vip").await;
        let id = bench.mail("vip", LONG).await;
        assert_eq!(bench.closed(&id).await["sent"], 30);
        assert_eq!(provider.seen().len(), 30, "each was sent once");
    }
}

crate::on_each_database! {
    async fn an_outcome_that_the_database_never_takes_holds_up_no_other(kind: Database) {
        let bench = Bench::start(kind, &[]).await;
        refuse(&bench, "NEW.recipient LIKE '79030000007'").await;
        bench.import(30, "vip").await;
        let id = bench.mail("vip", LONG).await;
        let path = format!("/mailings/{id}");
        let mailing = bench.wait_for(&path, |mailing| mailing["counts"]["sent"] == 29).await;
        assert_eq!(mailing["counts"]["sending"], 1, "{mailing}");
        let rows = bench.rows(&id).await;
        assert!(rows.iter().all(|row| row.status == MessageStatus::Sent) && rows.len() == 29, "{rows:?}");
        // the engine goes on with other mailings
        bench.clients("phone_number,tag\n79040000000,other\n".into()).await;
        let other = bench.mail("other", LONG).await;
        assert_eq!(bench.closed(&other).await["sent"], 1);
    }
}
