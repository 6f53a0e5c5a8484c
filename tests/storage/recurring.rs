//! Recurring requests: each scheduled time becomes exactly one occurrence, whichever node plans it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use fanfare::channels::RequestSpec;
use fanfare::db::AnyConnection;
use fanfare::db::schema::{due, message, request};
use fanfare::db::types::{MessageId, RecurringId, ResourceId, Timestamp};
use fanfare::kinds::MessageStatus;
use fanfare::messages::cancelling::Recall;
use fanfare::messages::repo::end_waiting;
use fanfare::notifications::notifier::NewMessageNotifier;
use fanfare::requests::cron::Cron;
use fanfare::requests::model::{Notify, RequestDraft, RequestKind};
use fanfare::requests::recurring::model::{CatchUp, CronSchedule, RecurringStatus};
use fanfare::requests::recurring::repo::{self, CreatedOccurrences, RecurringRow};
use fanfare::requests::recurring::timekeeper::Timekeeper;
use tokio::sync::Notify as Wake;

use crate::on_each_database;
use crate::storage::explain::{postgres_plan, sqlite_plan};
use crate::storage::stage::{Stage, at};

const MINUTE: Duration = Duration::from_secs(60);

fn spec(url: &str) -> RequestSpec {
    RequestSpec {
        verb: "POST".into(),
        url: url.into(),
        headers: vec![("x-a".into(), "b".into())],
        body: Some("{\"a\":1}".into()),
        is_json: true,
        timeout_ms: 1500,
        credential: None,
        again: None,
        is_report: false,
    }
}

fn asked(until: Option<Timestamp>) -> RequestDraft {
    let notify = Notify { spec: spec("https://example.com/results"), delays: Some(vec![7]), until: None };
    RequestDraft {
        spec: spec("https://example.com/run"),
        delays: Some(vec![1, 2]),
        until,
        notify: Some(notify),
    }
}

fn schedule(cron: &str, catch_up: CatchUp, ends_at: Option<Timestamp>) -> CronSchedule {
    let cron = Cron::parse(cron, chrono_tz::UTC).unwrap();
    CronSchedule { cron, catch_up, starts_at: None, ends_at }
}

/// Returns a recurring request that runs every minute from second 1,020 on.
fn each_minute(ends_at: Option<Timestamp>) -> RecurringRow {
    let schedule = schedule("* * * * *", CatchUp::Once, ends_at);
    RecurringRow::new(&asked(ends_at), &schedule, schedule.next_after(at(1_000)).unwrap(), at(1_000)).unwrap()
}

/// Returns the scheduled times of all occurrences, in order.
async fn runs(stage: &Stage) -> Vec<(RecurringId, Timestamp)> {
    let read = stage.db.read(|c| {
        let runs = request::table
            .inner_join(due::table.on(due::message_id.eq(request::message_id)))
            .filter(request::kind.eq(RequestKind::Run.code()))
            .order((request::scheduled_at, request::parent_id))
            .select((request::parent_id.assume_not_null(), request::scheduled_at));
        Ok(runs.load::<(ResourceId, Timestamp)>(c)?)
    });
    read.await.unwrap().into_iter().map(|(id, at)| (RecurringId(id.0), at)).collect()
}

struct Counting(AtomicUsize);

impl Recall for Counting {
    fn recall(&self) -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl NewMessageNotifier for Counting {
    fn arrived(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn timekeeper(stage: &Stage) -> (Timekeeper, Arc<Counting>) {
    let woken = Arc::new(Counting(AtomicUsize::new(0)));
    let keeper =
        Timekeeper::new(stage.runtime(), woken.clone(), (Arc::new(Wake::new()), Duration::from_secs(5)));
    (keeper, woken)
}

on_each_database! {
    async fn a_run_has_all_that_was_asked_for(kind: Database) {
        let stage = Stage::new(kind).await;
        let row = each_minute(Some(at(5_000)));
        let id = row.id;
        let insert = row.clone();
        stage.db.write(move |c| repo::insert(c, &insert)).await.unwrap();
        assert_eq!(stage.db.read(move |c| repo::find(c, id)).await.unwrap(), Some(row));
        assert_eq!(stage.db.read(repo::next_due).await.unwrap(), Some(at(1_020)));

        let taken = stage.db.write(|c| repo::create_due_occurrences(c, 10, at(1_021))).await.unwrap();
        assert_eq!(taken, CreatedOccurrences { recurring: 1, runs: 1 });
        let (message, row) = stage.db.read(|c| {
            let both = message::table.inner_join(request::table.on(request::message_id.eq(message::id)));
            let columns = (message::recipient, message::due_at, message::expires_at, message::status);
            let rest = (request::parent_id, request::scheduled_at, request::spec, request::retry, request::notify);
            type Row = (
                (String, Option<Timestamp>, Option<Timestamp>, i16),
                (Option<ResourceId>, Timestamp, String, Option<String>, Option<String>),
            );
            Ok(both.select((columns, rest)).first::<Row>(c)?)
        }).await.unwrap();
        let status = MessageStatus::Queued.code();
        assert_eq!(message, ("https://example.com/run".into(), Some(at(1_021)), Some(at(5_000)), status));
        assert_eq!((row.0, row.1), (Some(ResourceId(id.0)), at(1_020)));
        let written: RequestSpec = serde_json::from_str(&row.2).unwrap();
        assert_eq!((written, row.3.as_deref()), (spec("https://example.com/run"), Some("[1,2]")));
        assert_eq!(serde_json::from_str::<Notify>(&row.4.unwrap()).unwrap(), asked(None).notify.unwrap());

        let now = stage.db.read(move |c| repo::find(c, id)).await.unwrap().unwrap();
        assert_eq!((now.next_at, now.last_at), (Some(at(1_080)), Some(at(1_021))));
        assert_eq!((now.updated_at, now.status), (at(1_000), RecurringStatus::Scheduled.code()));
    }
}

on_each_database! {
    async fn of_many_that_take_at_once_each_run_is_made_by_one(kind: Database) {
        const COUNT: usize = 60;
        let stage = Stage::new(kind).await;
        let rows: Vec<RecurringRow> = (0..COUNT).map(|_| each_minute(None)).collect();
        stage.db.write(move |c| rows.iter().try_for_each(|row| repo::insert(c, row))).await.unwrap();
        let mut made = 0;
        for minute in 0..3 {
            let now = at(1_025 + 60 * minute);
            let mut takers = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let db = stage.db.clone();
                takers.spawn(async move {
                    let mut taken = 0;
                    loop {
                        let step = db.write(move |c| repo::create_due_occurrences(c, 7, now)).await.unwrap();
                        assert_eq!(step.recurring, step.runs);
                        taken += step.runs;
                        if step.recurring == 0 {
                            return taken;
                        }
                    }
                });
            }
            made += takers.join_all().await.into_iter().sum::<usize>();
        }
        assert_eq!(made, COUNT * 3);
        let runs = runs(&stage).await;
        assert_eq!((runs.len(), runs.iter().collect::<BTreeSet<_>>().len()), (COUNT * 3, COUNT * 3));
    }
}

on_each_database! {
    async fn what_is_rolled_back_is_made_again_and_once(kind: Database) {
        let stage = Stage::new(kind).await;
        let row = each_minute(None);
        stage.db.write(move |c| repo::insert(c, &row)).await.unwrap();
        let failed = stage.db.write(|c| {
            assert_eq!(repo::create_due_occurrences(c, 10, at(1_020))?.runs, 1);
            Err::<(), _>(fanfare::error::Error::internal("the node dies"))
        });
        assert!(failed.await.is_err());
        assert!(runs(&stage).await.is_empty());
        for _ in 0..2 {
            stage.db.write(|c| repo::create_due_occurrences(c, 10, at(1_020))).await.unwrap();
        }
        assert_eq!(runs(&stage).await.len(), 1);
    }
}

on_each_database! {
    async fn the_timekeeper_makes_runs_at_their_times_and_wakes_the_engine(kind: Database) {
        let stage = Stage::new(kind).await;
        let (keeper, woken) = timekeeper(&stage);
        let seconds = Duration::from_secs;
        assert_eq!(keeper.run_once().await.unwrap(), seconds(5), "nothing is planned: it looks again by itself");
        let (row, ending) = (each_minute(None), each_minute(Some(at(1_080))));
        let (id, ended) = (row.id, ending.id);
        stage.db.write(move |c| [row, ending].iter().try_for_each(|row| repo::insert(c, row))).await.unwrap();
        assert_eq!(keeper.run_once().await.unwrap(), seconds(5));
        stage.clock.set(at(1_019));
        assert_eq!(keeper.run_once().await.unwrap(), seconds(1));
        assert_eq!((runs(&stage).await.len(), woken.0.load(Ordering::SeqCst)), (0, 0));
        stage.clock.set(at(1_020));
        assert_eq!(keeper.run_once().await.unwrap(), Duration::ZERO, "there may be more");
        assert_eq!((runs(&stage).await.len(), woken.0.load(Ordering::SeqCst)), (2, 1));
        let over = stage.db.read(move |c| repo::find(c, ended)).await.unwrap().unwrap();
        assert_eq!(over.next_at, None, "at its end it does not run");
        // five missed minutes become one occurrence, beside the one that is due
        stage.clock.set(at(1_020).plus(6 * MINUTE));
        keeper.run_once().await.unwrap();
        let times: Vec<Timestamp> = runs(&stage).await.into_iter().filter(|run| run.0 == id).map(|run| run.1).collect();
        // an occurrence that is a minute late is not missed
        assert_eq!(times, [at(1_020), at(1_080), at(1_320), at(1_380)]);
        assert_eq!(keeper.run_once().await.unwrap(), seconds(5));
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    }
}

on_each_database! {
    async fn one_that_cannot_be_read_holds_up_no_other(kind: Database) {
        let stage = Stage::new(kind).await;
        let mut broken = each_minute(None);
        broken.timezone = "Mars/Base".into();
        let (id, well) = (broken.id, each_minute(None));
        let other = well.id;
        stage.db.write(move |c| [broken, well].iter().try_for_each(|row| repo::insert(c, row))).await.unwrap();
        let taken = stage.db.write(|c| repo::create_due_occurrences(c, 1, at(1_020))).await.unwrap();
        assert_eq!(taken, CreatedOccurrences { recurring: 1, runs: 0 });
        stage.db.write(|c| repo::create_due_occurrences(c, 1, at(1_020))).await.unwrap();
        assert_eq!(runs(&stage).await, [(other, at(1_020))]);
        let later = stage.db.read(move |c| repo::find(c, id)).await.unwrap().unwrap();
        assert_eq!(later.next_at, Some(at(1_020 + 3_600)));
    }
}

on_each_database! {
    async fn only_runs_that_have_not_ended_are_found_and_only_of_this_one(kind: Database) {
        let stage = Stage::new(kind).await;
        let rows = [each_minute(None), each_minute(None)];
        let id = rows[0].id;
        stage.db.write(move |c| rows.iter().try_for_each(|row| repo::insert(c, row))).await.unwrap();
        for second in [1_020, 1_080] {
            stage.db.write(move |c| repo::create_due_occurrences(c, 10, at(second))).await.unwrap();
        }
        let waiting = move |c: &mut AnyConnection| repo::open_runs(c, id);
        let ids: Vec<MessageId> = stage.db.read(waiting).await.unwrap();
        assert_eq!(ids.len(), 2);
        let claimed = ids[0];
        stage.db.write(move |c| Ok(diesel::delete(due::table.find(claimed)).execute(c)?)).await.unwrap();
        assert_eq!(stage.db.read(waiting).await.unwrap(), ids, "one in a node's hands is not over");
        let end = (MessageStatus::Cancelled, None);
        stage.db.write(move |c| end_waiting(c, &[ids[1]], end, at(1_100)).map(drop)).await.unwrap();
        assert_eq!(stage.db.read(waiting).await.unwrap(), [claimed]);
    }
}

on_each_database! {
    async fn what_is_due_is_found_by_its_index(kind: Database) {
        let stage = Stage::new(kind).await;
        stage.db.write(|c| {
            let one = each_minute(None);
            for number in 0..2_000 {
                let next_at = (number % 2 == 0).then(|| at(2_000 + number));
                let row = RecurringRow { id: RecurringId::new(), next_at, ..one.clone() };
                repo::insert(c, &row)?;
            }
            Ok(())
        }).await.unwrap();
        let select = "SELECT id FROM recurring_request WHERE next_at <=";
        let order = "ORDER BY next_at, id LIMIT 100";
        let plan = stage.db.write(move |c| {
            Ok(match c {
                AnyConnection::Postgres(c) => {
                    c.batch_execute("ANALYZE recurring_request")?;
                    let sql = format!("EXPLAIN {select} to_timestamp(2010) {order} FOR UPDATE SKIP LOCKED");
                    postgres_plan(diesel::sql_query(sql).load(c)?)
                }
                AnyConnection::Sqlite(c) => {
                    let sql = format!("EXPLAIN QUERY PLAN {select} 2010000000 {order}");
                    sqlite_plan(diesel::sql_query(sql).load(c)?)
                }
            })
        });
        let plan = plan.await.unwrap();
        assert!(plan.contains("recurring_request_by_next") && !plan.contains("Sort"), "{plan}");
    }
}
