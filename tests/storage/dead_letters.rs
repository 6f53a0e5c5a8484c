//! Dead letters: a message is replayed once, whatever requests run concurrently.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::connection::{Connection, InstrumentationEvent, SimpleConnection};
use diesel::prelude::*;
use fanfare::db::AnyConnection;
use fanfare::db::schema::{dead_letter, due, message, replayed};
use fanfare::db::types::{EventId, MailingId, MessageId, NodeId, ReplayId, Timestamp};
use fanfare::dead_letters::keeper;
use fanfare::dead_letters::model::{
    Closed, DeadEvent, DeadLetter, DeadLetterPosition, LetterFilter, LetterKind, NewDeadEvent, Refusal,
    Replay, ReplayStatus,
};
use fanfare::dead_letters::replayer::Replayer;
use fanfare::dead_letters::repo::many::{self, ReplayStep, ReplayTurn};
use fanfare::dead_letters::repo::{self, DeadLetterOrder, one};
use fanfare::dead_letters::usecase::{AcceptEvent, ReplayNotifiers};
use fanfare::error::{Error, Result};
use fanfare::kinds::{ChannelKind, ErrorClass, MessageStatus};
use fanfare::live::Live;
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::model::MailingStatus;
use fanfare::mailings::usecase::Wakeup;
use fanfare::messages::cancelling::Recall;
use fanfare::messages::repo::{MessageRow, insert_messages};
use fanfare::metrics::Metrics;
use fanfare::notifications::notifier::NewMessageNotifier;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::on_each_database;
use crate::storage::explain::{postgres_plan, sqlite_plan};
use crate::storage::stage::{Stage, at, mailing_at_work};
use crate::support::Database;

/// A message that failed at this second.
#[derive(Debug, Clone, Copy)]
struct Failure {
    second: i64,
    channel: ChannelKind,
    class: ErrorClass,
    mailing: Option<(MailingId, i32)>,
    event: Option<EventId>,
}

const PLAIN: Failure = Failure {
    second: 1_000,
    channel: ChannelKind::Sms,
    class: ErrorClass::Exhausted,
    mailing: None,
    event: None,
};

fn bury(c: &mut AnyConnection, failure: Failure) -> MessageId {
    let row = MessageRow {
        id: MessageId::new(),
        client_id: None,
        due_at: None,
        expires_at: None,
        finished_at: Some(at(failure.second)),
        mailing_number: failure.mailing.map(|(_, number)| number),
        duration_ms: Some(1),
        status_code: None,
        channel: failure.channel.code(),
        priority: 1,
        status: MessageStatus::Failed.code(),
        attempts: 4,
        revision: if failure.mailing.is_some() { 4 } else { 5 },
        recipient: "79030000000".into(),
        provider_id: None,
        error: Some("no".into()),
    };
    assert_eq!(insert_messages(c, &[&row]).unwrap().len(), 1);
    insert_letter(c, row.id, failure);
    row.id
}

fn insert_letter(c: &mut AnyConnection, id: MessageId, failure: Failure) {
    diesel::insert_into(dead_letter::table)
        .values((
            dead_letter::id.eq(id),
            dead_letter::mailing_id.eq(failure.mailing.map(|(id, _)| id)),
            dead_letter::channel.eq(Some(failure.channel.code())),
            dead_letter::class.eq(failure.class.code()),
            dead_letter::failed_at.eq(at(failure.second)),
            dead_letter::event_id.eq(failure.event),
            dead_letter::error.eq("no"),
        ))
        .execute(c)
        .unwrap();
}

fn open(c: &mut AnyConnection, filter: &LetterFilter) -> Vec<DeadLetter> {
    repo::list(c, filter, (DeadLetterOrder::OldestFirst, None), 100_000).unwrap()
}

fn poison(id: MessageId) -> NewDeadEvent {
    NewDeadEvent {
        id,
        source: 2,
        subject: "orders.created".into(),
        key: Some("order-1".into()),
        name: None,
        body: b"{".to_vec(),
        tries: 5,
        error: "it is no JSON".into(),
        received_at: at(990),
    }
}

on_each_database! {
    async fn however_many_replay_the_same_letters_at_once_each_is_replayed_once(kind: Database) {
        let stage = Stage::new(kind).await;
        let ids: Vec<MessageId> = stage.db.write(|c| Ok((0..200).map(|_| bury(c, PLAIN)).collect())).await.unwrap();
        let tasks: Vec<_> = (0..8usize)
            .map(|task| {
                let (db, mut ids) = (stage.db.clone(), ids.clone());
                // each task in a different order
                ids.rotate_left(task * 25);
                tokio::spawn(async move {
                    db.write(move |c| {
                        let mut letters = open(c, &LetterFilter::default());
                        letters.sort_by_key(|letter| ids.iter().position(|id| *id == letter.id));
                        Ok(one::replay(c, &letters, None, at(1_001))?.replayed.len())
                    })
                    .await
                    .unwrap()
                })
            })
            .collect();
        let mut replayed_by = Vec::new();
        for task in tasks {
            replayed_by.push(task.await.unwrap());
        }
        assert_eq!(replayed_by.iter().sum::<usize>(), 200, "{replayed_by:?}");
        let rows = stage.db.read(|c| {
            let notes: i64 = replayed::table.count().get_result(c)?;
            let due: i64 = due::table.count().get_result(c)?;
            let states: Vec<(i16, i16, i16, Option<Timestamp>)> =
                message::table.select((message::status, message::attempts, message::revision, message::finished_at)).distinct().load(c)?;
            Ok((notes, due, states, open(c, &LetterFilter::default()).len()))
        });
        assert_eq!(rows.await.unwrap(), (200, 200, vec![(MessageStatus::Queued.code(), 4, 6, None)], 0));
    }
}

on_each_database! {
    async fn each_filter_finds_its_letters_in_the_order_of_their_failures_page_by_page(kind: Database) {
        let stage = Stage::new(kind).await;
        let (mailing, event) = (MailingId::new(), EventId::new());
        let looked = stage.db.write(move |c| {
            for i in 0..60i64 {
                let class = [ErrorClass::Rejected, ErrorClass::Gone, ErrorClass::Exhausted][i as usize % 3];
                let channel = if i % 2 == 0 { ChannelKind::Sms } else { ChannelKind::Email };
                // two letters for each second
                bury(c, Failure {
                    second: 2_000 - i / 2, channel, class,
                    mailing: (i % 4 == 0).then_some((mailing, 1)).filter(|_| i < 4),
                    event: (i % 5 == 0).then_some(event),
                });
            }
            assert!(repo::bury_event(c, &poison(MessageId::new()), at(2_001))?);
            let all = LetterFilter::default();
            let cases = [
                (all.clone(), 61),
                (LetterFilter { channel: Some(ChannelKind::Sms), ..all.clone() }, 30),
                (LetterFilter { class: Some(ErrorClass::Gone), ..all.clone() }, 20),
                (LetterFilter { class: Some(ErrorClass::Gone), channel: Some(ChannelKind::Sms), ..all.clone() }, 10),
                (LetterFilter { class: Some(ErrorClass::Poison), ..all.clone() }, 1),
                (LetterFilter { kind: Some(LetterKind::Event), ..all.clone() }, 1),
                (LetterFilter { kind: Some(LetterKind::Message), ..all.clone() }, 60),
                (LetterFilter { kind: Some(LetterKind::Event), class: Some(ErrorClass::Gone), ..all.clone() }, 0),
                (LetterFilter { mailing_id: Some(mailing), ..all.clone() }, 1),
                (LetterFilter { event_id: Some(event), ..all.clone() }, 12),
                (LetterFilter { event_id: Some(event), channel: Some(ChannelKind::Email), ..all.clone() }, 6),
                (LetterFilter { failed_after: Some(at(1_990)), failed_before: Some(at(2_000)), ..all.clone() }, 20),
                (LetterFilter { failed_after: Some(at(1_990)), channel: Some(ChannelKind::Sms), ..all.clone() }, 11),
            ];
            for (filter, expected) in cases {
                for order in [DeadLetterOrder::OldestFirst, DeadLetterOrder::NewestFirst] {
                    let (mut found, mut after) = (Vec::new(), None);
                    loop {
                        let page = repo::list(c, &filter, (order, after), 7)?;
                        after = page.last().map(DeadLetter::place);
                        let ended = page.len() < 7;
                        found.extend(page);
                        if ended { break; }
                    }
                    assert_eq!(found.len(), expected, "{filter:?}");
                    let mut places: Vec<_> = found.iter().map(DeadLetter::place).collect();
                    if order == DeadLetterOrder::NewestFirst { places.reverse(); }
                    assert!(places.is_sorted() && places.windows(2).all(|two| two[0] != two[1]), "{filter:?} {order:?}");
                }
            }
            Ok(())
        });
        looked.await.unwrap();
    }
}

/// Returns a replay of the letters of a filter, requested at this second.
fn replay_of(filter: LetterFilter, second: i64) -> Replay {
    Replay {
        id: ReplayId::new(),
        status: ReplayStatus::Running,
        filter,
        rate_per_second: 500.0,
        replayed: 0,
        refused: 0,
        refusals: std::collections::BTreeMap::new(),
        created_at: at(second),
        finished_at: None,
    }
}

on_each_database! {
    async fn a_replay_of_many_takes_each_letter_once_whoever_makes_its_steps(kind: Database) {
        let stage = Stage::new(kind).await;
        let replay = replay_of(LetterFilter { channel: Some(ChannelKind::Sms), ..LetterFilter::default() }, 1_500);
        let id = replay.id;
        stage.db.write(move |c| {
            for i in 0..95 {
                bury(c, Failure { second: 1_000 + i, ..PLAIN });
            }
            // a letter of another channel, and one that failed later
            bury(c, Failure { channel: ChannelKind::Email, ..PLAIN });
            bury(c, Failure { second: 1_500, ..PLAIN });
            many::insert(c, &replay)
        }).await.unwrap();

        let (one, other) = (NodeId::new(), NodeId::new());
        let (mut all, mut steps) = (HashSet::new(), 0);
        loop {
            steps += 1;
            // every second step is another node's, after the lease of the first node has expired
            let (node, now) = (if steps % 2 == 0 { other } else { one }, at(2_000 + steps * 10));
            let turn = ReplayTurn { id, node, until: now.plus(Duration::from_secs(5)) };
            let step = stage.db.write(move |c| many::step(c, turn, 10, now)).await.unwrap();
            if kind == Database::Postgres {
                let second = ReplayTurn { node: NodeId::new(), ..turn };
                let too_early = stage.db.write(move |c| many::step(c, second, 10, now)).await.unwrap();
                assert!(matches!(too_early, ReplayStep::NotOurs), "{too_early:?}");
            }
            let (done, ended) = match step {
                ReplayStep::Did(done) => (done, false),
                ReplayStep::Finished(done) => (done, true),
                step => panic!("{step:?}"),
            };
            let ids: Vec<MessageId> = done.replayed.iter().map(|(id, _)| *id).collect();
            assert!(ids.iter().all(|id| all.insert(*id)), "twice");
            // replayed messages fail again at once, at the time of a clock that jumped back to before the replay
            stage.db.write(move |c| {
                diesel::update(message::table.filter(message::id.eq_any(&ids)))
                    .set(message::status.eq(MessageStatus::Failed.code())).execute(c)?;
                diesel::delete(due::table).execute(c)?;
                ids.iter().for_each(|id| insert_letter(c, *id, Failure { second: 1_499, ..PLAIN }));
                Ok(())
            }).await.unwrap();
            if ended { break; }
            assert!(steps < 50, "it does not end");
        }
        assert_eq!(all.len(), 95);
        let seen = stage.db.read(move |c| many::get(c, id)).await.unwrap();
        assert_eq!((seen.status, seen.replayed, seen.refused), (ReplayStatus::Finished, 95, 0));
        assert!(seen.finished_at.is_some());
        let over = ReplayTurn { id, node: one, until: at(9_000) };
        assert!(matches!(stage.db.write(move |c| many::step(c, over, 10, at(9_000))).await.unwrap(), ReplayStep::NotOurs));
        assert!(!stage.db.write(move |c| many::cancel(c, id, at(9_000))).await.unwrap());
    }
}

on_each_database! {
    async fn what_may_not_be_sent_any_more_is_refused_and_stays(kind: Database) {
        let stage = Stage::new(kind).await;
        stage.create(serde_json::json!({"phone_number": "79030000001"})).await.unwrap();
        let last = stage.all().await[0].id;
        let refused = stage.db.write(move |c| {
            let mailing = mailing_at_work(c, AudienceFilter::default(), last);
            let number = fanfare::mailings::repo::number(c, mailing)?;
            let of_mailing = bury(c, Failure { mailing: Some((mailing, number)), ..PLAIN });
            let unreachable = bury(c, Failure { class: ErrorClass::Unreachable, ..PLAIN });
            let expired = bury(c, PLAIN);
            diesel::update(message::table.find(expired)).set(message::expires_at.eq(Some(at(1_999)))).execute(c)?;
            let letters = open(c, &LetterFilter::default());
            // the mailing's window ends at second 2,000
            let done = one::replay(c, &letters, None, at(2_000))?;
            assert!(done.replayed.is_empty(), "{done:?}");
            let mut refused = done.refused.clone();
            refused.sort();
            let mut expected = vec![(of_mailing, Refusal::WindowClosed), (unreachable, Refusal::Unreachable), (expired, Refusal::Expired)];
            expected.sort();
            assert_eq!(refused, expected);
            fanfare::mailings::repo::set_status(c, mailing, fanfare::mailings::model::MailingStatus::Cancelled, at(1_500))?;
            let done = one::replay(c, &letters, None, at(1_500))?;
            assert!(done.refused.contains(&(of_mailing, Refusal::Cancelled)), "{done:?}");
            assert_eq!(done.replayed, [(expired, ChannelKind::Sms)]);
            Ok(open(c, &LetterFilter::default()).len())
        });
        assert_eq!(refused.await.unwrap(), 2);
    }
}

on_each_database! {
    async fn old_letters_are_closed_and_stay_as_what_failed(kind: Database) {
        let stage = Stage::new(kind).await;
        let (old, young, event) = stage.db.write(|c| {
            let event = MessageId::new();
            assert!(repo::bury_event(c, &poison(event), at(100))?, "it is new");
            assert!(!repo::bury_event(c, &poison(event), at(101))?, "it is kept once");
            Ok((bury(c, Failure { second: 400, ..PLAIN }), bury(c, Failure { second: 900, ..PLAIN }), event))
        }).await.unwrap();
        let closed = keeper::close_old(&stage.db, &stage.clock, Duration::from_secs(500)).await.unwrap();
        assert_eq!(closed, 2);
        assert_eq!(keeper::close_old(&stage.db, &stage.clock, Duration::from_secs(500)).await.unwrap(), 0);
        stage.db.write(move |c| {
            assert_eq!(open(c, &LetterFilter::default()).iter().map(|l| l.id).collect::<Vec<_>>(), [young]);
            assert_eq!((repo::closed(c, old)?, repo::closed(c, young)?), (Some(Closed::Expired), None));
            assert!(repo::find_event(c, event)?.is_none() && repo::count(c)? == 1);
            let failed = fanfare::messages::model::MessageFilter { status: Some(MessageStatus::Failed), mailing: None };
            let page = fanfare::messages::repo::list(c, &failed, 10, None)?;
            assert_eq!(page.items.iter().map(|m| m.id).collect::<Vec<_>>(), [old, young], "both failed");
            let letters = open(c, &LetterFilter::default());
            assert_eq!(repo::close(c, &[young, old], Closed::Dropped, at(1_000))?, 1);
            let done = one::replay(c, &letters, None, at(1_000))?;
            assert!(done.replayed.is_empty() && done.refused.is_empty(), "{done:?}");
            Ok(())
        }).await.unwrap();
    }
}

/// Returns the generic plan of the single statement that a list executes.
fn plan_of_list(c: &mut AnyConnection, filter: &LetterFilter, order: DeadLetterOrder) -> String {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&heard);
    c.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            let text = query.to_string();
            book.lock().unwrap().push(text.split("-- binds").next().unwrap().to_owned());
        }
    });
    let after = Some(DeadLetterPosition { at: at(1_010), id: MessageId::new() });
    repo::list(c, filter, (order, after), 50).unwrap();
    c.set_instrumentation(|_: InstrumentationEvent<'_>| ());
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.len(), 1, "{heard:?}");
    let sql = &heard[0];
    match c {
        AnyConnection::Postgres(c) => {
            let nulls = vec!["NULL"; sql.matches('$').count()].join(", ");
            c.batch_execute(&format!(
                "SET LOCAL plan_cache_mode = force_generic_plan; PREPARE list AS {sql}"
            ))
            .unwrap();
            let plan =
                postgres_plan(diesel::sql_query(format!("EXPLAIN EXECUTE list({nulls})")).load(c).unwrap());
            c.batch_execute("DEALLOCATE list").unwrap();
            plan
        }
        AnyConnection::Sqlite(c) => {
            sqlite_plan(diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(c).unwrap())
        }
    }
}

on_each_database! {
    async fn each_list_of_letters_walks_its_index_and_sorts_nothing(kind: Database) {
        let stage = Stage::new(kind).await;
        let looked = stage.db.write(|c| {
            // many rows, so that no other index is as selective
            let mailings: Vec<MailingId> = (0..50).map(|_| MailingId::new()).collect();
            let events: Vec<EventId> = (0..50).map(|_| EventId::new()).collect();
            for i in 0..6_000usize {
                let id = MessageId::new();
                insert_letter(c, id, Failure {
                    second: 1_000 + i as i64,
                    channel: ChannelKind::ALL[i % 3],
                    class: ErrorClass::ALL[i % 5],
                    mailing: (i % 2 == 0).then_some((mailings[i / 2 % 50], 1)),
                    event: (i % 2 == 1).then_some(events[i / 2 % 50]),
                });
                if i % 3 == 0 {
                    repo::close(c, &[id], Closed::Dropped, at(9_000))?;
                }
            }
            match c {
                AnyConnection::Postgres(c) => c.batch_execute("ANALYZE").unwrap(),
                AnyConnection::Sqlite(c) => c.batch_execute("ANALYZE").unwrap(),
            }
            let all = LetterFilter::default();
            let of_kind = LetterFilter { channel: Some(ChannelKind::Sms), class: Some(ErrorClass::Gone), ..all.clone() };
            let cases = [
                (all.clone(), "dead_letter_open"),
                (LetterFilter { failed_after: Some(at(1_000)), failed_before: Some(at(1_500)), ..all.clone() }, "dead_letter_open"),
                (of_kind.clone(), "dead_letter_open_of_kind"),
                (LetterFilter { failed_before: Some(at(1_500)), ..of_kind }, "dead_letter_open_of_kind"),
                (LetterFilter { mailing_id: Some(mailings[0]), ..all.clone() }, "dead_letter_open_of_mailing"),
                (LetterFilter { event_id: Some(events[0]), ..all.clone() }, "dead_letter_open_of_event"),
            ];
            for (filter, index) in cases {
                for order in [DeadLetterOrder::OldestFirst, DeadLetterOrder::NewestFirst] {
                    let plan = plan_of_list(c, &filter, order);
                    let words: Vec<&str> = plan.split_whitespace().collect();
                    assert!(words.contains(&index), "{filter:?} {order:?}: {plan}");
                    assert!(!plan.contains("Sort") && !plan.contains("TEMP B-TREE"), "{filter:?} {order:?}: {plan}");
                }
            }
            Ok(())
        });
        looked.await.unwrap();
    }
}

/// Counts notifications, and accepts every second event.
#[derive(Default)]
struct Partner {
    mailings: AtomicUsize,
    arrivals: AtomicUsize,
    events: Mutex<Vec<DeadEvent>>,
}

impl Wakeup for Partner {
    fn mailing_changed(&self) {
        self.mailings.fetch_add(1, Ordering::Relaxed);
    }

    fn mailing_stopped(&self, _id: MailingId, _status: MailingStatus) {}

    fn pending_changed(&self) {}
}

impl Recall for Partner {
    fn recall(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl NewMessageNotifier for Partner {
    fn arrived(&self) {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
    }
}

impl AcceptEvent for Partner {
    fn take(&self, event: DeadEvent) -> BoxFuture<'static, Result<()>> {
        let mut events = self.events.lock().unwrap();
        events.push(event);
        let is_taken = events.len() % 2 == 1;
        Box::pin(async move { if is_taken { Ok(()) } else { Err(Error::Conflict("no".into())) } })
    }
}

on_each_database! {
    async fn events_are_replayed_among_messages_each_handed_over_once(kind: Database) {
        let stage = Stage::new(kind).await;
        let replay = replay_of(LetterFilter::default(), 2_000);
        let id = replay.id;
        stage.db.write(move |c| {
            for i in 0..6 {
                bury(c, Failure { second: 1_000 + 10 * i, ..PLAIN });
                assert!(repo::bury_event(c, &poison(MessageId::new()), at(1_005 + 10 * i))?);
            }
            many::insert(c, &Replay { rate_per_second: 100_000.0, ..replay })
        }).await.unwrap();
        let partner = Arc::new(Partner::default());
        let told = ReplayNotifiers {
            wakeup: partner.clone(),
            arrivals: partner.clone(),
            live: Live::new(true),
            metrics: Metrics::new().unwrap(),
        };
        let ways = (Arc::new(Notify::new()), Duration::from_secs(1));
        let mut replayer = Replayer::new(stage.runtime(), told, partner.clone(), ways);
        let mut steps = 0;
        let ended = loop {
            replayer.run_once().await.unwrap();
            let seen = stage.db.read(move |c| many::get(c, id)).await.unwrap();
            steps += 1;
            if seen.status == ReplayStatus::Finished { break seen; }
            assert!(steps < 10_000, "{seen:?}");
        };
        assert_eq!((ended.replayed, ended.refused, ended.refusals.get(&Refusal::Event)), (9, 3, Some(&3)), "{ended:?}");
        let events = partner.events.lock().unwrap().clone();
        let ids: HashSet<MessageId> = events.iter().map(|event| event.id).collect();
        assert_eq!((events.len(), ids.len(), events[0].body.as_slice()), (6, 6, b"{".as_slice()));
        assert_eq!((partner.mailings.load(Ordering::Relaxed), partner.arrivals.load(Ordering::Relaxed)), (0, 6));
        let left = stage.db.read(|c| Ok(open(c, &LetterFilter::default()))).await.unwrap();
        assert!(left.len() == 3 && left.iter().all(|letter| letter.kind == LetterKind::Event), "{left:?}");
    }
}
