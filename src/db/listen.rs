//! PostgreSQL's LISTEN and NOTIFY: nodes tell each other that something changed. A hint; whoever gets none still polls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{PgConnection, QueryResult, RunQueryDsl};
use tokio::sync::oneshot;

use super::any::AnyConnection;
use super::connection::Opener;
use super::handle::Db;
use crate::error::{Error, Result};

/// One channel for all: the payload says who speaks.
const CHANNEL: &str = "fanfare";
/// Between two looks at the socket; they cost a system call each and no query.
const LOOK: Duration = Duration::from_millis(10);
/// How long the start waits for it to listen. It is a hint: a start that would fail without it would be worse.
const AT_START: Duration = Duration::from_secs(1);
/// Between two tries to connect.
const RECONNECT: Duration = Duration::from_secs(1);

/// Between two questions to the server, which show that the connection works: nothing else is sent on it.
const QUESTION: Duration = Duration::from_secs(4);
/// Without a sign of life for so long the connection is given up with its thread.
const SILENCE: Duration = Duration::from_secs(8);
/// How long its end may take.
const END: Duration = Duration::from_secs(1);

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

type Heard = Arc<dyn Fn(&str) + Send + Sync>;

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
    pub async fn listen(&self, heard: impl Fn(&str) + Send + Sync + 'static) -> Result<Option<Listener>> {
        if self.is_single_node() {
            return Ok(None);
        }
        let (opener, over) = (self.opener().clone(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&over);
        let (listens, begun) = oneshot::channel();
        let listens = Mutex::new(Some(listens));
        let heard: Heard = Arc::new(move |payload: &str| {
            heard(payload);
            if let Some(listens) = listens.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // an error: nobody waits any more
                let _ = listens.send(());
            }
        });
        let thread = thread::Builder::new()
            .name("postgres-listener".into())
            .spawn(move || keep_listening(&opener, &until, &heard))
            .map_err(|e| Error::Internal(e.into()))?;
        let _ = tokio::time::timeout(AT_START, begun).await;
        Ok(Some(Listener { over, thread: Some(thread) }))
    }
}

/// State shared by a thread that listens and the one that watches it.
struct Watch {
    over: AtomicBool,
    seen: Mutex<Instant>,
}

impl Watch {
    fn see(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silence(&self) -> Duration {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Has a thread of its own listen, and another one when that hears nothing from the server: a call that waits for it cannot
/// be interrupted.
fn keep_listening(opener: &Opener, over: &AtomicBool, heard: &Heard) {
    while !over.load(Ordering::Acquire) {
        let watch = Arc::new(Watch { over: AtomicBool::new(false), seen: Mutex::new(Instant::now()) });
        let thread = {
            let (opener, watch, heard) = (opener.clone(), Arc::clone(&watch), Arc::clone(heard));
            thread::Builder::new().name("postgres-ear".into()).spawn(move || listen(&opener, &watch, &heard))
        };
        match thread {
            Ok(thread) => {
                while !over.load(Ordering::Acquire) && !thread.is_finished() && watch.silence() < SILENCE {
                    thread::sleep(LOOK);
                }
                if !over.load(Ordering::Acquire) && !thread.is_finished() {
                    tracing::warn!(
                        "the connection that listens to the other nodes is silent; connecting again"
                    );
                }
                watch.over.store(true, Ordering::Release);
                // usually at once: it must not be cut off in the middle of a connection when the process ends
                let began = Instant::now();
                while !thread.is_finished() && began.elapsed() < END {
                    thread::sleep(LOOK);
                }
            }
            Err(error) => tracing::error!(%error, "no thread could be started to listen to the other nodes"),
        }
        wait(RECONNECT, over);
    }
}

fn listen(opener: &Opener, watch: &Watch, heard: &Heard) {
    if let Ok(AnyConnection::Postgres(mut connection)) = opener.open()
        && let Err(error) = follow(&mut connection, watch, heard)
    {
        tracing::warn!(%error, "the connection that listens to the other nodes broke; connecting again");
    }
}

/// Returns when it is over.
fn follow(connection: &mut PgConnection, watch: &Watch, heard: &Heard) -> QueryResult<()> {
    connection.batch_execute(&format!("LISTEN {CHANNEL}"))?;
    heard("");
    let mut asked = Instant::now();
    while !watch.over.load(Ordering::Acquire) {
        for notification in connection.notifications_iter() {
            heard(&notification?.payload);
        }
        if asked.elapsed() > QUESTION {
            connection.batch_execute("SELECT 1")?;
            asked = Instant::now();
        }
        watch.see();
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
