//! The positions of a broker's partitions, and the records that were refused.

use std::sync::Arc;

use fanfare::broker::{Partition, Position, Step};
use fanfare::db::types::Timestamp;
use fanfare::dead_letters::model::LetterFilter;
use fanfare::dead_letters::repo as letters;
use fanfare::error::Error;
use fanfare::events::order::{EventOrder, EventStoreResult, IntakeResult, SourceRecords};
use fanfare::events::refused::{self, RefusedRecord, SourceRecord};
use fanfare::events::repo::{self, EventRow, NewEventRows};
use fanfare::events::{model::Source, positions};
use futures_util::future::join_all;

use crate::on_each_database;
use crate::storage::stage::{Stage, at};

fn partition(number: i32) -> Partition {
    Partition { group: "fanfare".to_owned(), topic: "orders".to_owned(), number }
}

fn position(number: i32, next: i64) -> Position {
    Position { partition: partition(number), topic_id: [7; 16], incarnation: 0, next }
}

fn step(number: i32, from: i64, to: i64) -> Step {
    Step { partition: partition(number), incarnation: 0, from, to }
}

fn record(place: &str, most_tries: u64) -> SourceRecord {
    let (subject, key) = (place.to_owned(), place.to_owned());
    SourceRecord { subject, key, name: None, body: "{".into(), fault: None, most_tries }
}

fn event(key: &str, fingerprint: u8) -> NewEventRows {
    let event = EventRow {
        id: fanfare::db::types::EventId::new(),
        key: Some(key.to_owned()),
        name: "order.paid".to_owned(),
        user_target: None,
        targets: None,
        payload: "{}".to_owned(),
        occurred_at: None,
        received_at: at(0),
        source: Source::Broker.code(),
        skipped: None,
        fingerprint: Some(vec![fingerprint]),
        namespace: 1,
    };
    NewEventRows { event, rows: Vec::new() }
}

fn order(step: Step, events: Vec<NewEventRows>, refused: Vec<RefusedRecord>) -> Arc<EventOrder> {
    let records = events.iter().map(|new| record(new.event.key.as_deref().unwrap(), 2)).collect();
    Arc::new(EventOrder {
        events,
        claim: None,
        answer: Arc::new(|_: &[EventStoreResult]| Err(Error::internal("there is no key"))),
        source: Some(SourceRecords { step, records, refused }),
    })
}

async fn next(stage: &Stage, number: i32) -> i64 {
    let all = stage.db.read(|c| positions::of_topic(c, "fanfare", "orders")).await.unwrap();
    all.into_iter().find(|one| one.partition.number == number).unwrap().next
}

on_each_database! {
    async fn a_position_begins_once_and_moves_from_where_it_is_alone(kind: Database) {
        let stage = Stage::new(kind).await;
        let begin = |next| stage.db.write(move |c| positions::begin(c, &[position(0, next), position(1, next)], at(0)));
        begin(5).await.unwrap();
        // another node begins later at another position
        begin(9).await.unwrap();
        assert_eq!((next(&stage, 0).await, next(&stage, 1).await), (5, 5));
        let advance = |from, to| stage.db.write(move |c| positions::advance(c, &step(0, from, to), at(1)));
        assert!(advance(5, 8).await.unwrap());
        assert!(!advance(5, 8).await.unwrap(), "it was there before");
        let other = Step { incarnation: 1, ..step(0, 8, 9) };
        assert!(!stage.db.write(move |c| positions::advance(c, &other, at(1))).await.unwrap(), "another topic's");
        let anew = Position { topic_id: [8; 16], incarnation: 1, next: 0, ..position(0, 8) };
        let replaced = anew.clone();
        assert!(stage.db.write(move |c| positions::replace(c, &position(0, 8), &replaced, at(2))).await.unwrap());
        assert!(!stage.db.write(move |c| positions::replace(c, &position(0, 8), &anew, at(2))).await.unwrap());
        assert_eq!((next(&stage, 0).await, next(&stage, 1).await), (0, 5));
    }
}

on_each_database! {
    async fn of_nodes_that_read_the_same_records_one_stores_them(kind: Database) {
        let stage = Stage::new(kind).await;
        stage.db.write(|c| positions::begin(c, &[position(0, 0), position(1, 0)], at(0))).await.unwrap();
        // eight nodes believe that they own both partitions. Their events have different ids, so that only the
        // positions prevent duplicates.
        let take = |node: usize| {
            let orders = [1, 0].map(|number| {
                let keys = (0..5).map(|offset| event(&format!("{node}/{number}/{offset}"), 1));
                order(step(number, 0, 5), keys.collect(), Vec::new())
            });
            stage.db.write(move |c| repo::take(c, &orders, at(1)))
        };
        let handed: Vec<IntakeResult> =
            join_all((0..8).map(take)).await.into_iter().flat_map(|taken| taken.unwrap()).collect();
        let stored = handed.iter().filter(|one| matches!(one, IntakeResult::Each(each) if each.len() == 5)).count();
        assert_eq!((stored, handed.iter().filter(|one| **one == IntakeResult::Fenced).count()), (2, 14));
        let filter = repo::EventListFilter::default();
        let events = stage.db.read(move |c| repo::list(c, &filter, 100)).await.unwrap();
        assert_eq!(events.len(), 10);
        assert_eq!((next(&stage, 0).await, next(&stage, 1).await), (5, 5));
    }
}

on_each_database! {
    async fn what_is_refused_is_kept_with_the_step_and_never_without(kind: Database) {
        let stage = Stage::new(kind).await;
        stage.db.write(|c| positions::begin(c, &[position(0, 0)], at(0))).await.unwrap();
        let refusal = |place: &str, is_final, most_tries| RefusedRecord {
            record: record(place, most_tries),
            reason: "it is no JSON".to_owned(),
            is_final,
        };
        let refused = vec![refusal("p/0", false, 5), refusal("p/1", true, 5), refusal("p/2", false, 1)];
        let events = vec![event("same", 1), event("same", 2)];
        let first = order(step(0, 0, 5), events, refused.clone());
        let handed = stage.db.write(move |c| repo::take(c, &[first], at(0))).await.unwrap();
        assert_eq!(handed, [IntakeResult::Each(vec![EventStoreResult::New, EventStoreResult::Foreign])]);
        // the same step again, by a node that is behind
        let again = order(step(0, 0, 5), Vec::new(), vec![refusal("p/9", true, 5)]);
        assert_eq!(stage.db.write(move |c| repo::take(c, &[again], at(0))).await.unwrap(), [IntakeResult::Fenced]);
        let due = stage.db.read(|c| refused::due(c, at(3600), 10)).await.unwrap();
        let mut waiting: Vec<(&str, i32)> = due.iter().map(|row| (row.subject.as_str(), row.tries)).collect();
        waiting.sort_unstable();
        assert_eq!(waiting, [("p/0", 1), ("same", 1)]);
        let open = stage.db.read(|c| letters::list(c, &LetterFilter::default(), (letters::DeadLetterOrder::OldestFirst, None), 10));
        assert_eq!(open.await.unwrap().len(), 2, "those that no other try helps");
        assert!(stage.db.read(|c| refused::due(c, at(0), 10)).await.unwrap().is_empty(), "a second later");
    }
}

on_each_database! {
    async fn each_try_is_one_nodes_and_the_last_makes_a_letter(kind: Database) {
        let stage = Stage::new(kind).await;
        let refusal = RefusedRecord { record: record("p/0", 3), reason: "no route".to_owned(), is_final: false };
        stage.db.write(move |c| refused::keep(c, &refusal, at(0))).await.unwrap();
        let mut tries = 1;
        let mut now = 0;
        loop {
            now += 10;
            let due = stage.db.read(move |c| refused::due(c, at(now), 10)).await.unwrap();
            let [row] = &due[..] else { break };
            assert_eq!(row.tries, tries);
            let claim = |_: usize| {
                let row = row.clone();
                stage.db.write(move |c| refused::claim(c, &row, at(now)))
            };
            let claimed = join_all((0..4).map(claim)).await.into_iter().filter(|claimed| *claimed.as_ref().unwrap());
            assert_eq!(claimed.count(), 1, "one node alone tries it");
            tries += 1;
            let mut row = row.clone();
            row.tries = tries;
            let buried = stage.db.write(move |c| refused::refuse(c, &row, 3, at(now))).await.unwrap();
            assert_eq!(buried, tries == 3);
        }
        assert_eq!(tries, 3);
        let id = refused::letter_of("p/0");
        let letter = stage.db.read(move |c| letters::find_event(c, id)).await.unwrap().unwrap();
        assert_eq!((letter.subject.as_str(), letter.tries, letter.received_at), ("p/0", 3, at(0)));
    }
}

#[test]
fn a_later_try_waits_longer() {
    let due = |tries| Timestamp::from_micros(0).plus(fanfare::broker::delay(refused::FIRST_DELAY, tries));
    assert!(due(1) < due(2) && due(2) < due(3));
}
