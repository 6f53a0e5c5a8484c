//! Classification of database errors by the caller's options, whatever the language of the server's messages.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use fanfare::db::{AnyConnection, Db, DbOptions, Workload, is_deadlock, refuses_values};
use fanfare::error::{Error, Result};

use crate::support::{Database, TestDb};

async fn open(test_db: &TestDb) -> Db {
    let options = DbOptions::new(test_db.url.clone());
    tokio::task::spawn_blocking(|| Db::open(options)).await.unwrap().unwrap()
}

/// Raises an error with this code and a German text.
async fn raised(db: &Db, code: &str) -> Error {
    let statement =
        format!("DO $$ BEGIN RAISE EXCEPTION 'etwas ging schief' USING ERRCODE = '{code}'; END $$");
    db.write(move |c| Ok(c.batch_execute(&statement)?)).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_work_later_is_told_by_its_code_and_not_by_its_words() {
    let test_db = TestDb::new(Database::Postgres);
    let db = open(&test_db).await;
    for code in [
        "53100", "53200", "53300", "53400", "57014", "55P03", "25006", "40001", "40P01", "57P03", "58030",
        "08006",
    ] {
        let error = raised(&db, code).await;
        assert!(matches!(error, Error::Unavailable(_)), "{code}: {error}");
        assert_eq!(is_deadlock(&error), code == "40P01", "{code}");
        assert!(error.to_string().contains(&format!("SQLSTATE {code}")), "{error}");
    }
    for code in ["22001", "22003", "22021", "22P05", "23502", "23514", "54000"] {
        let error = raised(&db, code).await;
        assert!(matches!(error, Error::Internal(_)) && refuses_values(&error), "{code}: {error}");
    }
    for code in ["42601", "42P01", "P0001", "XX000"] {
        let error = raised(&db, code).await;
        assert!(matches!(error, Error::Internal(_)) && !refuses_values(&error), "{code}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_wait_for_each_other_are_a_deadlock() {
    let test_db = TestDb::new(Database::Postgres);
    let db = open(&test_db).await;
    // each transaction takes its own lock, waits until the other one has its lock, and requests the other's lock
    let (first_has, second_has) = (std::sync::Arc::new(std::sync::Barrier::new(2)), 2);
    let other_has = std::sync::Arc::clone(&first_has);
    let take = move |own: i32, other: i32, both: std::sync::Arc<std::sync::Barrier>| {
        move |c: &mut AnyConnection| -> Result<()> {
            c.batch_execute(&format!("SELECT pg_advisory_xact_lock({own})"))?;
            both.wait();
            Ok(c.batch_execute(&format!("SELECT pg_advisory_xact_lock({other})"))?)
        }
    };
    let (one, two) =
        tokio::join!(db.write(take(1, second_has, first_has)), db.write(take(second_has, 1, other_has)));
    let ended = one.and(two).unwrap_err();
    assert!(is_deadlock(&ended), "{ended}");
}

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = diesel::sql_types::Text)]
    value: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_work_has_limits_of_its_own() {
    let test_db = TestDb::new(Database::Postgres);
    let db = open(&test_db).await;
    let mut seen = Vec::new();
    for work in [Workload::Request, Workload::Engine, Workload::Import, Workload::Probe, Workload::Command] {
        let db = db.doing(work);
        let ask = |name: &'static str| {
            let db = db.clone();
            async move {
                let ask = format!("SELECT current_setting('{name}') AS value");
                db.write(move |c| Ok(diesel::sql_query(ask).get_result::<Setting>(c)?.value)).await.unwrap()
            }
        };
        seen.push((ask("statement_timeout").await, ask("lock_timeout").await));
    }
    let expected = [("2250ms", "2s"), ("8s", "6s"), ("12s", "10s"), ("800ms", "500ms"), ("1h", "30s")];
    assert_eq!(seen, expected.map(|(statement, lock)| (statement.to_owned(), lock.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_ended_by_the_server() {
    let test_db = TestDb::new(Database::Postgres);
    let options = DbOptions { timeout: Duration::from_secs(5), ..DbOptions::new(test_db.url.clone()) };
    let db =
        tokio::task::spawn_blocking(|| Db::open(options)).await.unwrap().unwrap().doing(Workload::Request);
    let slow = db.write(|c| Ok(c.batch_execute("SELECT pg_sleep(60)")?)).await.unwrap_err();
    assert!(matches!(slow, Error::Unavailable(_)), "{slow}");
    assert!(slow.to_string().contains("SQLSTATE 57014"), "{slow}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_does_not_end_is_given_up_and_not_committed() {
    let test_db = TestDb::new(Database::Postgres);
    let options = DbOptions { timeout: Duration::from_millis(500), ..DbOptions::new(test_db.url.clone()) };
    let db = tokio::task::spawn_blocking(|| Db::open(options)).await.unwrap().unwrap();
    db.write(|c| Ok(c.batch_execute("CREATE TABLE t (n INTEGER)")?)).await.unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (ended, end) = tokio::sync::oneshot::channel();
    let asking = db.doing(Workload::Request);
    let late = asking.write(move |c| {
        c.batch_execute("INSERT INTO t VALUES (1)")?;
        // simulates a server that does not respond
        let _ = held.recv();
        let _ = ended.send(());
        Ok(())
    });
    let error = late.await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "nothing was committed: {error}");
    drop(release);
    end.await.unwrap();
    // the lock on the table is released when the transaction is rolled back
    db.write(|c| Ok(c.batch_execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")?)).await.unwrap();
    let count =
        db.read(|c| Ok(diesel::sql_query("SELECT count(*)::text AS value FROM t").get_result::<Setting>(c)?));
    assert_eq!(count.await.unwrap().value, "0");
}
