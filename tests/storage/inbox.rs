//! Inboxes: a delivered message is stored once, and lists are read page by page.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use fanfare::channels::Delivery;
use fanfare::channels::in_app::{InboxStore, StoreError};
use fanfare::db::AnyConnection;
use fanfare::db::schema::inbox;
use fanfare::db::types::{MessageId, Timestamp};
use fanfare::error::Error;
use fanfare::inbox::Inbox;
use fanfare::inbox::delivery::InboxWriter;
use fanfare::inbox::model::{InboxFilter, InboxMessage, InboxPosition, Mark, UserId};
use fanfare::inbox::repo::{self, NewInboxRow};
use fanfare::inbox::views::InboxMessageView;
use futures_util::future::join_all;

use crate::on_each_database;
use crate::storage::explain::{postgres_plan, sqlite_plan};
use crate::storage::stage::{Stage, at};
use crate::support::Database;

/// A lifetime longer than any test.
const LONG: Duration = Duration::from_secs(1_000_000);

fn row(user: &str, delivered: i64) -> NewInboxRow {
    NewInboxRow {
        message_id: MessageId::new(),
        created_at: at(delivered),
        expires_at: at(delivered).plus(LONG),
        user_id: user.to_owned(),
        subject: None,
        text: format!("delivered at {delivered}"),
        data: None,
    }
}

async fn insert(stage: &Stage, rows: &[NewInboxRow]) -> BTreeSet<MessageId> {
    let rows = rows.to_vec();
    stage.db.write(move |c| repo::insert(c, &rows)).await.unwrap().into_iter().collect()
}

fn usecase(stage: &Stage) -> Inbox {
    Inbox::new(stage.runtime(), b"a secret for the tests")
}

fn user(id: &str) -> UserId {
    id.parse().unwrap()
}

fn delivery(id: MessageId, recipient: &str, text: &str) -> Delivery {
    Delivery {
        id,
        subject: Some("subject".to_owned()),
        data: Some(Arc::from(r#"{"order":7}"#)),
        ..Delivery::to(recipient, text)
    }
}

fn letterbox(stage: &Stage) -> InboxWriter {
    let (letterbox, worker) = InboxWriter::new(stage.runtime(), LONG);
    tokio::spawn(worker.run());
    letterbox
}

/// Reads all pages of a list, each of at most `limit` messages.
async fn pages(inbox: &Inbox, shown: Option<InboxFilter>, limit: i64) -> Vec<InboxMessage> {
    let (mut all, mut after): (Vec<InboxMessage>, Option<InboxPosition>) = (Vec::new(), None);
    loop {
        let (page, next) = inbox.list(user("u1"), shown, after, limit).await.unwrap();
        assert!(page.len() as i64 <= limit);
        all.extend(page);
        let Some(next) = next else { return all };
        assert!(after != Some(next));
        after = Some(next);
    }
}

on_each_database! {
    async fn what_is_delivered_stands_in_its_inbox_once_with_all_that_it_says(kind: Database) {
        let stage = Stage::new(kind).await;
        let (letterbox, inbox) = (letterbox(&stage), usecase(&stage));
        let id = MessageId::new();
        letterbox.put(delivery(id, "u1", "it's \"here\" <b>")).await.unwrap();
        inbox.mark(user("u1"), id, Mark::Read).await.unwrap();
        // the process died before it recorded the delivery, and delivers the message again
        stage.clock.set(at(1_010));
        letterbox.put(delivery(id, "u1", "it's \"here\" <b>")).await.unwrap();
        let found = pages(&inbox, Some(InboxFilter::All), 10).await;
        assert_eq!(found.len(), 1);
        let shown = serde_json::to_value(InboxMessageView::from(&found[0])).unwrap();
        assert_eq!(shown, serde_json::json!({
            "id": id, "subject": "subject", "text": "it's \"here\" <b>", "data": {"order": 7},
            "created_at": at(1_000), "read_at": at(1_000), "archived_at": null,
        }));
    }
}

on_each_database! {
    async fn what_comes_at_once_is_written_together_and_what_cannot_be_kept_is_refused_alone(kind: Database) {
        let stage = Stage::new(kind).await;
        let letterbox = letterbox(&stage);
        let same = MessageId::new();
        let put = |n: usize| {
            let (id, recipient) = (if n < 2 { same } else { MessageId::new() }, if n == 7 { "two words" } else { "u1" });
            // SQLite stores this character, PostgreSQL refuses it in any text
            let text = if n == 8 { "nul\0" } else { "fine" };
            letterbox.put(delivery(id, recipient, text))
        };
        let came = join_all((0..600).map(put)).await;
        for (n, came) in came.into_iter().enumerate() {
            let expected = match (n, kind) {
                (7, _) => Err(StoreError::NoUser),
                (8, Database::Postgres) => Err(StoreError::Refused),
                _ => Ok(()),
            };
            assert_eq!(came, expected, "{n}");
        }
        let expected = if kind == Database::Postgres { 597 } else { 598 };
        assert_eq!(usecase(&stage).count(user("u1")).await.unwrap().unread, expected);
    }
}

on_each_database! {
    async fn a_list_shows_what_is_unread_first_and_each_part_the_newest_first(kind: Database) {
        let stage = Stage::new(kind).await;
        let inbox = usecase(&stage);
        // two messages at each time, so that the time alone is not a position
        let rows: Vec<NewInboxRow> = (0..24).map(|n| row("u1", 100 + n / 2)).collect();
        insert(&stage, &rows).await;
        insert(&stage, &[row("u2", 100), row("U1", 100), row("u", 100), row("u11", 100)]).await;
        let id = |n: usize| rows[n].message_id;
        for n in [1, 4, 5, 23] {
            inbox.mark(user("u1"), id(n), Mark::Read).await.unwrap();
        }
        for n in [5, 6] {
            inbox.mark(user("u1"), id(n), Mark::Archived).await.unwrap();
        }
        let (read, archived) = ([23, 4, 1], [6, 5]);
        let unread: Vec<usize> = (0..24).rev().filter(|n| !read.contains(n) && !archived.contains(n)).collect();
        let expected = |parts: &[&[usize]]| parts.concat().into_iter().map(id).collect::<Vec<_>>();
        for (shown, parts) in [
            (None, vec![&unread[..], &read]),
            (Some(InboxFilter::Unread), vec![&unread[..]]),
            (Some(InboxFilter::Read), vec![&read[..]]),
            (Some(InboxFilter::Archived), vec![&archived[..]]),
            (Some(InboxFilter::All), vec![&unread[..], &read, &archived]),
        ] {
            for limit in [1, 2, 7, 19, 22, 24, 1000] {
                let seen: Vec<MessageId> = pages(&inbox, shown, limit).await.iter().map(|m| m.id).collect();
                assert_eq!(seen, expected(&parts), "{shown:?} {limit}");
            }
        }
        assert_eq!(inbox.count(user("u1")).await.unwrap().unread, unread.len() as i64);
    }
}

on_each_database! {
    async fn a_mark_may_come_twice_and_only_to_what_is_the_users(kind: Database) {
        let stage = Stage::new(kind).await;
        let inbox = usecase(&stage);
        let mine = row("u1", 100);
        insert(&stage, std::slice::from_ref(&mine)).await;
        let id = mine.message_id;
        for (second, mark, read, archived) in [
            (1_001, Mark::Unread, None, None),
            (1_002, Mark::Read, Some(1_002), None),
            (1_003, Mark::Read, Some(1_002), None),
            (1_004, Mark::Unread, None, None),
            (1_005, Mark::Read, Some(1_005), None),
            (1_006, Mark::Archived, Some(1_005), Some(1_006)),
            (1_007, Mark::Archived, Some(1_005), Some(1_006)),
            (1_008, Mark::Unread, None, Some(1_006)),
        ] {
            stage.clock.set(at(second));
            let marked = inbox.mark(user("u1"), id, mark).await.unwrap();
            assert_eq!((marked.read_at, marked.archived_at), (read.map(at), archived.map(at)), "{second}");
        }
        assert_eq!(inbox.count(user("u1")).await.unwrap().unread, 0, "what is archived is not unread");
        for (whose, which) in [("u2", id), ("U1", id), ("u1", MessageId::new())] {
            for mark in [Mark::Read, Mark::Unread, Mark::Archived] {
                let refused = inbox.mark(user(whose), which, mark).await;
                assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
            }
        }
    }
}

on_each_database! {
    async fn all_is_read_that_was_there_and_nothing_that_comes_later(kind: Database) {
        let stage = Stage::new(kind).await;
        let inbox = usecase(&stage);
        let mut rows: Vec<NewInboxRow> = (0..2_500).map(|_| row("u1", 900)).collect();
        rows.extend([row("u1", 1_001), row("u2", 900)]);
        insert(&stage, &rows).await;
        inbox.mark(user("u1"), rows[0].message_id, Mark::Archived).await.unwrap();
        // more than one transaction marks; one is archived, and one was delivered after the clock's time
        assert_eq!(inbox.read_all(user("u1")).await.unwrap().read, 2_499);
        assert_eq!(inbox.read_all(user("u1")).await.unwrap().read, 0);
        assert_eq!(inbox.count(user("u1")).await.unwrap().unread, 1);
        assert_eq!(inbox.count(user("u2")).await.unwrap().unread, 1);
        stage.clock.set(at(1_001));
        assert_eq!(inbox.read_all(user("u1")).await.unwrap().read, 1);
    }
}

on_each_database! {
    async fn what_has_expired_is_not_shown_and_is_removed_in_steps(kind: Database) {
        let stage = Stage::new(kind).await;
        let inbox = usecase(&stage);
        let mut rows: Vec<NewInboxRow> = (0..5).map(|_| NewInboxRow { expires_at: at(1_500), ..row("u1", 900) }).collect();
        rows.push(row("u1", 900));
        insert(&stage, &rows).await;
        stage.clock.set(Timestamp::from_micros(1_499_999_999));
        assert_eq!(inbox.count(user("u1")).await.unwrap().unread, 6);
        stage.clock.set(at(1_500));
        assert_eq!(inbox.count(user("u1")).await.unwrap().unread, 1);
        assert_eq!(pages(&inbox, Some(InboxFilter::All), 10).await.len(), 1);
        let gone = inbox.mark(user("u1"), rows[0].message_id, Mark::Read).await;
        assert!(matches!(gone, Err(Error::NotFound { .. })));
        assert_eq!(inbox.read_all(user("u1")).await.unwrap().read, 1);
        for (removed, left) in [(3, 3), (2, 1), (0, 1)] {
            let counted = stage.db.write(move |c| {
                Ok((repo::remove_expired(c, at(1_500), 3)?, inbox::table.count().get_result::<i64>(c)?))
            });
            assert_eq!(counted.await.unwrap(), (removed, left));
        }
    }
}

on_each_database! {
    async fn a_page_of_a_long_inbox_is_a_walk_along_an_index(kind: Database) {
        let stage = Stage::new(kind).await;
        let rows: Vec<NewInboxRow> = (0..20_000).map(|n| row(&format!("u{}", n % 4), n)).collect();
        insert(&stage, &rows).await;
        let plans = stage.db.write(|c| {
            c.batch_execute("UPDATE inbox SET read_at = created_at WHERE user_id < 'u3'")?;
            let (now, place) = match c {
                AnyConnection::Postgres(_) => ("to_timestamp(20000)", "to_timestamp(15000)"),
                AnyConnection::Sqlite(_) => ("20000000000", "15000000000"),
            };
            c.batch_execute(if now.starts_with("to") { "ANALYZE inbox" } else { "ANALYZE" })?;
            // the statements of the repo
            let page = |part: &str| format!("SELECT message_id, text FROM inbox WHERE user_id = $1 AND expires_at > {now} \
                AND {part} AND created_at <= {place} AND (created_at < {place} OR message_id < message_id) \
                ORDER BY created_at DESC, message_id DESC LIMIT 50");
            let statements = [
                ("inbox_unread", page("read_at IS NULL AND archived_at IS NULL")),
                ("inbox_read", page("read_at IS NOT NULL AND archived_at IS NULL")),
                ("inbox_archived", page("archived_at IS NOT NULL")),
                ("inbox_unread", "SELECT count(*) FROM inbox WHERE user_id = $1 AND read_at IS NULL AND archived_at IS NULL".to_owned()),
                ("inbox_by_expiry", format!("SELECT message_id FROM inbox WHERE expires_at <= {now} AND $1 <> '' ORDER BY expires_at LIMIT 10")),
            ];
            let mut plans = Vec::new();
            for (index, statement) in statements {
                let user = if index == "inbox_read" { "u1" } else { "u3" };
                let plan = match c {
                    AnyConnection::Postgres(c) => postgres_plan(
                        diesel::sql_query(format!("EXPLAIN {statement}")).bind::<Text, _>(user).load(c)?),
                    AnyConnection::Sqlite(c) => sqlite_plan(
                        diesel::sql_query(format!("EXPLAIN QUERY PLAN {statement}")).bind::<Text, _>(user).load(c)?),
                };
                plans.push((index, plan));
            }
            Ok(plans)
        });
        for (index, plan) in plans.await.unwrap() {
            assert!(plan.contains(index) && !plan.contains("Sort ") && !plan.contains("TEMP B-TREE"), "{index}: {plan}");
        }
    }
}
