//! Query plans of hot statements: they use their indexes on tables at rest.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Text};
use fanfare::clients::import;
use fanfare::db::AnyConnection;
use fanfare::db::types::{Id, MailingId};

use crate::on_each_database;
use crate::storage::explain::{postgres_plan, sqlite_plan, without_comments};
use crate::storage::stage::Stage;

const POSTGRES: &str = include_str!("../../src/clients/repo/sql/find_many_for_update.postgres.sql");
const SQLITE: &str = include_str!("../../src/clients/repo/sql/find_many_for_update.sqlite.sql");

const POSTGRES_EMAIL: &str =
    include_str!("../../src/clients/repo/sql/find_many_by_email_for_update.postgres.sql");
const SQLITE_EMAIL: &str =
    include_str!("../../src/clients/repo/sql/find_many_by_email_for_update.sqlite.sql");

/// Returns the plan of the lookup of clients that are matched by their e-mail addresses.
fn plan_by_email(connection: &mut AnyConnection) -> QueryResult<String> {
    let numbers: Vec<i64> = (0..50).map(|n| 79_030_000_000 + n * 7).collect();
    let emails: Vec<String> = (0..50).map(|n| format!("x{n}@example.com")).collect();
    Ok(match connection {
        AnyConnection::Postgres(c) => {
            c.batch_execute("ANALYZE client")?;
            let steps = diesel::sql_query(format!("EXPLAIN {}", without_comments(POSTGRES_EMAIL)))
                .bind::<Array<BigInt>, _>(numbers)
                .bind::<Array<Text>, _>(emails.clone())
                .bind::<Array<Text>, _>(emails)
                .load(c)?;
            postgres_plan(steps)
        }
        AnyConnection::Sqlite(c) => {
            c.batch_execute("ANALYZE")?;
            let emails = serde_json::to_string(&emails).unwrap();
            let steps = diesel::sql_query(format!("EXPLAIN QUERY PLAN {}", without_comments(SQLITE_EMAIL)))
                .bind::<Text, _>(serde_json::to_string(&numbers).unwrap())
                .bind::<Text, _>(emails.clone())
                .bind::<Text, _>(emails)
                .load(c)?;
            sqlite_plan(steps)
        }
    })
}

/// Returns the plan of an import's lookup of existing clients.
fn plan(connection: &mut AnyConnection) -> QueryResult<String> {
    let numbers: Vec<i64> = (0..50).map(|n| 79_030_000_000 + n * 7).collect();
    let ids: Vec<String> = (0..50).map(|n| format!("x{n}")).collect();
    Ok(match connection {
        AnyConnection::Postgres(c) => {
            c.batch_execute("ANALYZE client")?;
            let steps = diesel::sql_query(format!("EXPLAIN {}", without_comments(POSTGRES)))
                .bind::<Array<BigInt>, _>(numbers)
                .bind::<Array<Text>, _>(ids)
                .load(c)?;
            postgres_plan(steps)
        }
        AnyConnection::Sqlite(c) => {
            c.batch_execute("ANALYZE")?;
            let steps = diesel::sql_query(format!("EXPLAIN QUERY PLAN {}", without_comments(SQLITE)))
                .bind::<Text, _>(serde_json::to_string(&numbers).unwrap())
                .bind::<Text, _>(serde_json::to_string(&ids).unwrap())
                .load(c)?;
            sqlite_plan(steps)
        }
    })
}

on_each_database! {
    async fn an_import_looks_for_known_clients_by_index(kind: Database) {
        let stage = Stage::new(kind).await;
        let row = |n| format!("{},x{n},x{n}@example.com\n", 79_030_000_000_u64 + n);
        let rows: String = (0..20_000).map(row).collect();
        let file = std::io::Cursor::new(format!("phone_number,external_id,email\n{rows}"));
        import::import(&stage.db, &stage.clock, file, import::ImportOptions::default(), |_| ()).await.unwrap();
        let plan = stage.db.write(|c| Ok(plan(c)?)).await.unwrap();
        assert!(!plan.contains("Seq Scan") && !plan.contains("SCAN client"), "{plan}");
        assert!(plan.contains("phone_number") && plan.contains("external_id"), "{plan}");
        assert!(plan.contains("Bitmap Index Scan") || plan.contains("SEARCH client USING INDEX"), "{plan}");
        let plan = stage.db.write(|c| Ok(plan_by_email(c)?)).await.unwrap();
        assert!(!plan.contains("Seq Scan") && !plan.contains("SCAN client"), "{plan}");
        assert!(plan.contains("client_by_email"), "{plan}");
    }
}

on_each_database! {
    async fn what_is_of_a_mailing_is_found_by_an_index_that_leaves_out_what_is_of_none(kind: Database) {
        let stage = Stage::new(kind).await;
        let plans = stage.db.write(|c| {
            let messages = "SELECT id FROM message WHERE mailing_number = $1 ORDER BY client_id LIMIT 10";
            let due = "SELECT message_id FROM due WHERE mailing_id = $1 LIMIT 10";
            Ok(match c {
                AnyConnection::Postgres(c) => {
                    // without this setting PostgreSQL scans empty tables in spite of their indexes
                    c.batch_execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")?;
                    let messages = diesel::sql_query(format!("EXPLAIN {messages}")).bind::<Integer, _>(1).load(c)?;
                    let due = diesel::sql_query(format!("EXPLAIN {due}")).bind::<Id, _>(MailingId::new()).load(c)?;
                    [postgres_plan(messages), postgres_plan(due)]
                }
                AnyConnection::Sqlite(c) => {
                    let explain = |sql| diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}"));
                    let messages = explain(messages).bind::<Integer, _>(1).load(c)?;
                    [sqlite_plan(messages), sqlite_plan(explain(due).bind::<Id, _>(MailingId::new()).load(c)?)]
                }
            })
        });
        let [messages, due] = plans.await.unwrap();
        assert!(messages.contains("message_of_mailing") && !messages.to_lowercase().contains("sort"), "{messages}");
        assert!(!messages.contains("TEMP B-TREE"), "{messages}");
        assert!(due.contains("due_by_mailing"), "{due}");
    }
}
