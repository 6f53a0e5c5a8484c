//! Units of work in one commit do not affect each other.

use std::sync::{Arc, Mutex};

use diesel::RunQueryDsl;
use diesel::sql_types::BigInt;

use super::*;
use crate::db::{Db, DbOptions};

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

struct Fixture {
    db: Db,
    commits: Arc<Mutex<usize>>,
    _dir: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let dir = tempfile::TempDir::new().unwrap();
    let commits = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&commits);
    let url = format!("sqlite://{}", dir.path().join("t.db").display());
    let on_commit: Arc<dyn Fn(f64) + Send + Sync> = Arc::new(move |_| *counted.lock().unwrap() += 1);
    let db = Db::open(DbOptions { on_commit, ..DbOptions::new(url) }).unwrap();
    db.write(|c| Ok(c.batch_execute("CREATE TABLE t (n INTEGER NOT NULL)")?)).await.unwrap();
    Fixture { db, commits, _dir: dir }
}

impl Fixture {
    /// Blocks the writer with one unit of work until the sender is used, so that all later work shares a commit.
    async fn hold(&self) -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<Result<()>>) {
        let (release, held) = std::sync::mpsc::channel();
        let (running, runs) = oneshot::channel();
        let db = self.db.clone();
        let first = tokio::spawn(async move {
            db.write(move |_| {
                running.send(()).unwrap();
                held.recv().map_err(|e| Error::Internal(e.into()))
            })
            .await
        });
        runs.await.unwrap();
        (release, first)
    }

    async fn numbers(&self) -> Vec<i64> {
        let rows = self.db.read(|c| Ok(diesel::sql_query("SELECT n FROM t ORDER BY n").load::<Number>(c)?));
        rows.await.unwrap().into_iter().map(|row| row.n).collect()
    }
}

fn insert(n: i64) -> impl FnOnce(&mut AnyConnection) -> Result<()> + Send + 'static {
    move |c| Ok(c.batch_execute(&format!("INSERT INTO t VALUES ({n})"))?)
}

/// Runs three units of work in one group, with `second` in the middle.
async fn three(
    second: impl FnOnce(&mut AnyConnection) -> Result<()> + Send + 'static,
) -> (Fixture, [Result<()>; 3]) {
    let fixture = fixture().await;
    let (release, first) = fixture.hold().await;
    let before = fixture.db.write(insert(1));
    let middle = fixture.db.write(second);
    let after = fixture.db.write(insert(3));
    // join! polls them in this order, so each is in the queue before the writer continues
    let opened = async { release.send(()).unwrap() };
    let (a, b, c, ()) = tokio::join!(before, middle, after, opened);
    // the blocking unit belongs to the same group and has the same outcome
    let _ = first.await.unwrap();
    (fixture, [a, b, c])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_fails_takes_back_its_own_changes_only() {
    let (fixture, [a, b, c]) = three(|c| {
        insert(2)(c)?;
        Err(Error::Conflict("no".into()))
    })
    .await;
    assert!(a.is_ok() && matches!(b, Err(Error::Conflict(_))) && c.is_ok());
    assert_eq!(fixture.numbers().await, [1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_panics_takes_back_its_own_changes_only() {
    let (fixture, [a, b, c]) = three(|c| {
        insert(2)(c)?;
        panic!("planted")
    })
    .await;
    assert!(a.is_ok() && matches!(b, Err(Error::Internal(_))) && c.is_ok());
    assert_eq!(fixture.numbers().await, [1, 3]);
}

/// A full disk makes SQLite roll back the whole transaction by itself; ROLLBACK simulates that.
#[tokio::test(flavor = "multi_thread")]
async fn no_unit_of_a_group_succeeds_when_the_whole_transaction_is_rolled_back() {
    let (fixture, [a, b, c]) = three(|c| {
        c.batch_execute("ROLLBACK")?;
        Err(Error::internal("database or disk is full"))
    })
    .await;
    assert!(a.is_err() && b.is_err() && c.is_err(), "{a:?} {b:?} {c:?}");
    assert_eq!(fixture.numbers().await, [0; 0]);
    fixture.db.write(insert(4)).await.unwrap();
    assert_eq!(fixture.numbers().await, [4], "the writer continues with a new connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_units_share_a_commit() {
    let (fixture, results) = three(insert(2)).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(fixture.numbers().await, [1, 2, 3]);
    let commits = *fixture.commits.lock().unwrap();
    assert_eq!(commits, 2, "one for the table, one for the blocking unit and the three units of work");
}
