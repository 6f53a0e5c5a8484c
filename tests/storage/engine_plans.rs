//! Query plans of the engine's hot statements on tables at rest: each uses an index, sorts nothing, and scans no table
//! that grows.

use std::sync::{Arc, Mutex};

use diesel::connection::{Connection, InstrumentationEvent, SimpleConnection};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt};
use fanfare::clients::import;
use fanfare::clock::Clock;
use fanfare::db::AnyConnection;
use fanfare::db::schema::{client, due, page};
use fanfare::db::types::{ClientId, Id, Instant, LeaseId, MailingId, MessageId, NodeId, Timestamp};
use fanfare::kinds::ChannelKind;
use fanfare::mailings::filter::{AudienceFilter, Range};
use fanfare::mailings::repo::audience::{self, AudienceCursor, AudienceRead, ClientFields};
use fanfare::messages::repo::MessageRow;
use fanfare::messages::repo::insert_messages;

use crate::on_each_database;
use crate::storage::explain::{postgres_plan, sqlite_plan, without_comments};
use crate::storage::stage::Stage;
use crate::support::Database;

const CLIENTS: usize = 20_000;
const DUE: usize = 10_000;
const PAGES: usize = 1_000;

/// A statement as it is sent, with its values as SQL.
#[derive(Debug, Clone)]
struct Statement {
    sql: String,
    values: String,
}

/// Returns the statements that `f` executes.
fn heard(c: &mut AnyConnection, f: impl FnOnce(&mut AnyConnection)) -> Vec<Statement> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&heard);
    c.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            let text = query.to_string();
            let (sql, values) = text.split_once("-- binds:").expect("a statement with values");
            let values = values.replace("ClientId(", "'").replace([')', '"'], "'");
            let values = values.trim().trim_matches(['[', ']']).to_owned();
            book.lock().unwrap().push(Statement { sql: sql.to_owned(), values });
        }
    });
    f(c);
    c.set_instrumentation(|_: InstrumentationEvent<'_>| ());
    heard.lock().unwrap().clone()
}

/// Returns the plan of a statement after many executions: from the sixth one on PostgreSQL may use a generic plan.
fn plan(c: &mut AnyConnection, statement: &Statement) -> String {
    let Statement { sql, values } = statement;
    match c {
        AnyConnection::Postgres(c) => {
            c.batch_execute(&format!("PREPARE statement AS {sql}")).unwrap();
            let mut plan = String::new();
            for _ in 0..8 {
                let values = if values.is_empty() { String::new() } else { format!("({values})") };
                let run = format!("EXPLAIN EXECUTE statement{values}");
                plan = postgres_plan(diesel::sql_query(run).load(c).unwrap());
            }
            c.batch_execute("DEALLOCATE statement").unwrap();
            plan
        }
        AnyConnection::Sqlite(c) => explain(c, sql),
    }
}

fn explain(c: &mut SqliteConnection, sql: &str) -> String {
    sqlite_plan(diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(c).unwrap())
}

fn analyze(c: &mut AnyConnection) {
    match c {
        AnyConnection::Postgres(c) => c.batch_execute("ANALYZE").unwrap(),
        AnyConnection::Sqlite(c) => c.batch_execute("ANALYZE").unwrap(),
    }
}

/// Asserts that the plan reads the tables by this index and sorts nothing.
fn by_index(plan: &str, tables: &[&str], index: &str) {
    assert!(plan.contains(index), "{index} is used:\n{plan}");
    for table in tables {
        assert!(!plan.contains(&format!("Seq Scan on {table}")), "{table} is not scanned:\n{plan}");
        assert!(!plan.contains(&format!("SCAN {table}")), "{table} is not scanned:\n{plan}");
    }
    assert!(
        !plan.contains("Sort") && !plan.contains("USE TEMP B-TREE FOR ORDER BY"),
        "nothing is sorted:\n{plan}"
    );
}

/// Returns the range of clients, of these operators if given, that have the tag `more` after another one.
fn further(codes: &[&str]) -> Range {
    let codes = codes.iter().map(|code| (*code).to_owned()).collect();
    let filter =
        AudienceFilter { mobile_operator_code: codes, tag: vec!["more".into()], ..AudienceFilter::default() };
    filter.ranges().pop().unwrap()
}

on_each_database! {
    async fn a_page_of_an_audience_walks_the_index_of_its_kind_of_range(kind: Database) {
        let stage = Stage::new(kind).await;
        let codes = [903, 904, 905, 916];
        let tags = ["vip", "base;more", "new", ""];
        let rows = (0..CLIENTS).map(|i| format!("{}{:07},{}\n", codes[i % 4] + 7000, i, tags[i / 4 % 4]));
        let file = format!("phone_number,tags\n{}", rows.collect::<String>());
        import::import(&stage.db, &stage.clock, std::io::Cursor::new(file), import::ImportOptions::default(), |_| ()).await.unwrap();
        let postgres = kind == Database::Postgres;
        let cases = [
            (Range::All, if postgres { "client_pkey" } else { "USING PRIMARY KEY (id>? AND id<?)" }),
            (Range::Operator("903".into()),
                if postgres { "client_by_operator on" } else { "client_by_operator ((mobile_operator_code,id)>(?,?) AND (mobile_operator_code,id)<(?,?))" }),
            (Range::Tag("vip".into()), if postgres { "client_by_tag on" } else { "client_by_tag ((tag_key,id)>(?,?) AND (tag_key,id)<(?,?))" }),
            (Range::Both("903".into(), "vip".into()),
                if postgres { "client_by_operator_and_tag on" } else { "client_by_operator_and_tag ((mobile_operator_code,tag_key,id)>(?,?,?) AND (mobile_operator_code,tag_key,id)<(?,?,?))" }),
            (further(&[]), if postgres { "client_tag_pkey on" } else { "client_tag USING PRIMARY KEY ((key,client_id)>(?,?) AND (key,client_id)<(?,?))" }),
            (further(&["903"]),
                if postgres { "client_tag_by_operator on" } else { "client_tag_by_operator ((mobile_operator_code,key,client_id)>(?,?,?) AND (mobile_operator_code,key,client_id)<(?,?,?))" }),
        ];
        let looked = stage.db.write(move |c| {
            analyze(c);
            for (range, index) in cases {
                let ids: Vec<ClientId> = client::table.select(client::id).order(client::id).load(c)?;
                let what = AudienceRead { upper_bound: ids.last().copied(), limit: 500, needs: ClientFields { profile: true, ..ClientFields::of(ChannelKind::Sms) } };
                let cursor = AudienceCursor { range: 0, after: Some(ids[CLIENTS / 2]) };
                let heard = heard(c, |c| {
                    audience::read(c, std::slice::from_ref(&range), cursor, what).unwrap();
                });
                assert_eq!(heard.len(), 1, "{range:?}: one statement: {heard:?}");
                let plan = plan(c, &heard[0]);
                by_index(&plan, &["client", "client_tag"], index);
                if postgres {
                    let cond = plan.lines().find(|line| line.contains("Index Cond")).expect("a condition");
                    assert!(cond.contains(" > ") && cond.contains(" <= "), "{range:?}: {plan}");
                    assert!(!plan.contains("Filter"), "{range:?}: {plan}");
                }
            }
            Ok(())
        });
        looked.await.unwrap();
    }
}

/// Stores queued messages of one mailing, each due a second after the previous one.
fn wait(c: &mut AnyConnection) {
    let (now, mailing) = (Clock::System.now(), MailingId::new());
    let rows: Vec<MessageRow> =
        (0..DUE).map(|i| waiting(now.plus(std::time::Duration::from_secs(i as u64)))).collect();
    for rows in rows.chunks(1000) {
        let rows: Vec<&MessageRow> = rows.iter().collect();
        assert_eq!(insert_messages(c, &rows).unwrap().len(), rows.len());
    }
    for row in &rows {
        diesel::insert_into(due::table)
            .values((
                due::message_id.eq(row.id),
                due::mailing_id.eq(mailing),
                due::channel.eq(1_i16),
                due::priority.eq(1_i16),
                due::due_at.eq(row.due_at.unwrap()),
            ))
            .execute(c)
            .unwrap();
    }
}

fn waiting(due_at: Timestamp) -> MessageRow {
    MessageRow {
        id: MessageId::new(),
        client_id: Some(ClientId::new()),
        due_at: Some(due_at),
        expires_at: None,
        finished_at: None,
        mailing_number: Some(1),
        duration_ms: None,
        status_code: None,
        channel: 1,
        priority: 1,
        status: 0,
        attempts: 1,
        revision: 1,
        recipient: "79030000000".into(),
        provider_id: None,
        error: None,
    }
}

const CLAIM_POSTGRES: &str = include_str!("../../src/delivery/repo/sql/claim.postgres.sql");
const CLAIM_SQLITE: &str = include_str!("../../src/delivery/repo/sql/claim.sqlite.sql");

on_each_database! {
    async fn claiming_takes_the_first_due_from_their_index(kind: Database) {
        let stage = Stage::new(kind).await;
        let looked = stage.db.write(|c| {
            wait(c);
            analyze(c);
            let now = Clock::System.now().plus(std::time::Duration::from_secs(3_000));
            let plan = match c {
                AnyConnection::Postgres(c) => postgres_plan(
                    diesel::sql_query(format!("EXPLAIN {}", without_comments(CLAIM_POSTGRES)))
                        .bind::<SmallInt, _>(1)
                        .bind::<SmallInt, _>(1)
                        .bind::<Instant, _>(now)
                        .bind::<BigInt, _>(500)
                        .load(c)?,
                ),
                AnyConnection::Sqlite(c) => explain(c, &without_comments(CLAIM_SQLITE)),
            };
            by_index(&plan, &["due"], "due_by_time");
            let heard = heard(c, |c| {
                fanfare::delivery::repo::claim::next_due(c).unwrap();
            });
            for statement in heard {
                by_index(&self::plan(c, &statement), &["due"], "due_by_time");
            }
            Ok(())
        });
        looked.await.unwrap();
    }
}

const TAKE_OVER_POSTGRES: &str = include_str!("../../src/delivery/repo/sql/take_over.postgres.sql");
const TAKE_OVER_SQLITE: &str = include_str!("../../src/delivery/repo/sql/take_over.sqlite.sql");

// The number of leases is bounded by the messages in flight, whatever the size of the audience, so reading all of them
// is not a growing scan. The growing tables, mailings and messages, are read by key.
on_each_database! {
    async fn taking_over_reads_mailings_and_nodes_by_key(kind: Database) {
        let stage = Stage::new(kind).await;
        let looked = stage.db.write(|c| {
            let now = Clock::System.now();
            let node = NodeId::new();
            for _ in 0..PAGES {
                diesel::insert_into(page::table)
                    .values((page::id.eq(LeaseId::new()), page::node_id.eq(Some(node)), page::mailing_id.eq(Some(MailingId::new())),
                        page::channel.eq(1_i16), page::priority.eq(1_i16), page::remaining.eq(500), page::created_at.eq(now)))
                    .execute(c)?;
            }
            analyze(c);
            let plan = match c {
                AnyConnection::Postgres(c) => postgres_plan(
                    diesel::sql_query(format!("EXPLAIN {}", without_comments(TAKE_OVER_POSTGRES)))
                        .bind::<Id, _>(node)
                        .bind::<Array<Id>, _>(vec![LeaseId::new()])
                        .bind::<SmallInt, _>(3)
                        .bind::<Instant, _>(now)
                        .bind::<BigInt, _>(4)
                        .bind::<SmallInt, _>(1)
                        .bind::<SmallInt, _>(1)
                        .bind::<Nullable<Array<Id>>, _>(None::<Vec<MailingId>>)
                        .load(c)?,
                ),
                AnyConnection::Sqlite(c) => explain(c, &without_comments(TAKE_OVER_SQLITE)),
            };
            for grows in ["message", "client", "due"] {
                assert!(!plan.contains(&format!(" {grows} ")), "{plan}");
            }
            assert!(!plan.contains("SCAN m\n") && !plan.contains("SCAN n\n"), "{plan}");
            Ok(())
        });
        looked.await.unwrap();
    }
}
