//! PostgreSQL's LISTEN and NOTIFY: nodes tell each other that something changed. A hint; whoever gets none still polls.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{PgConnection, QueryResult, RunQueryDsl};
use r2d2::ManageConnection;
use tokio::sync::oneshot;

use super::any::AnyConnection;
use super::connection::{Db, Manager};
use crate::error::{Error, Result};

/// One channel for all: the payload says who speaks.
const CHANNEL: &str = "fanfare";
/// Between two looks at the socket; they cost a system call each and no query.
const LOOK: Duration = Duration::from_millis(10);
/// How long the start waits for it to listen. It is a hint: a start that would fail without it would be worse.
const AT_START: Duration = Duration::from_secs(1);
/// Between two tries to connect.
const RECONNECT: Duration = Duration::from_secs(1);

/// A thread that listens, until the value goes.
pub struct Listener {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // it panicked, and has said so
            let _ = thread.join();
        }
    }
}

impl Db {
    /// Tells the other nodes, with this payload. On SQLite there is none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn notify(&self, payload: String) -> Result<()> {
        if self.is_single_node() {
            return Ok(());
        }
        self.write(move |c| {
            if let AnyConnection::Postgres(c) = c {
                diesel::sql_query(format!("SELECT pg_notify('{CHANNEL}', $1)"))
                    .bind::<Text, _>(payload)
                    .execute(c)?;
            }
            Ok(())
        })
        .await
    }

    /// Calls `heard` with the payload of each notification, and with an empty one after each time it has connected, since
    /// something may have been said before. `None` on SQLite. It listens when this returns, if it can.
    ///
    /// # Errors
    /// When no thread can be started.
    pub async fn listen(&self, heard: impl Fn(&str) + Send + 'static) -> Result<Option<Listener>> {
        if self.is_single_node() {
            return Ok(None);
        }
        let (manager, over) = (self.manager().clone(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&over);
        let (listens, begun) = oneshot::channel();
        let listens = Cell::new(Some(listens));
        let heard = move |payload: &str| {
            heard(payload);
            if let Some(listens) = listens.take() {
                // an error: nobody waits any more
                let _ = listens.send(());
            }
        };
        let thread = thread::Builder::new()
            .name("postgres-listener".into())
            .spawn(move || listen(&manager, &until, &heard))
            .map_err(|e| Error::Internal(e.into()))?;
        let _ = tokio::time::timeout(AT_START, begun).await;
        Ok(Some(Listener { over, thread: Some(thread) }))
    }
}

fn listen(manager: &Manager, over: &AtomicBool, heard: &impl Fn(&str)) {
    while !over.load(Ordering::Acquire) {
        if let Ok(AnyConnection::Postgres(mut connection)) = manager.connect()
            && let Err(error) = follow(&mut connection, over, heard)
        {
            tracing::warn!(%error, "the connection that listens to the other nodes broke; connecting again");
        }
        wait(RECONNECT, over);
    }
}

/// Returns when it is over.
fn follow(connection: &mut PgConnection, over: &AtomicBool, heard: &impl Fn(&str)) -> QueryResult<()> {
    connection.batch_execute(&format!("LISTEN {CHANNEL}"))?;
    heard("");
    while !over.load(Ordering::Acquire) {
        for notification in connection.notifications_iter() {
            heard(&notification?.payload);
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn wait(time: Duration, over: &AtomicBool) {
    let mut left = time;
    while !left.is_zero() && !over.load(Ordering::Acquire) {
        let some = left.min(LOOK);
        thread::sleep(some);
        left -= some;
    }
}
