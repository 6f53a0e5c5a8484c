//! PostgreSQL's LISTEN and NOTIFY, by which nodes notify each other of changes. A notification is a hint; nodes also
//! poll.

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

/// The one channel for all notifications: the payload has the sender and the change.
const CHANNEL: &str = "fanfare";
/// The pause between two checks of the socket; each is a system call and no query.
const LOOK: Duration = Duration::from_millis(10);
/// The longest wait at the start until the node listens. The start does not fail without it, since it is only a hint.
const AT_START: Duration = Duration::from_secs(1);
/// The pause between two attempts to connect.
const RECONNECT: Duration = Duration::from_secs(1);

/// The interval of keepalive queries. Nothing else is sent on the connection.
const QUESTION: Duration = Duration::from_secs(4);
/// The time without a response after which the connection and its thread are abandoned.
const SILENCE: Duration = Duration::from_secs(8);
/// The time for the thread to end.
const END: Duration = Duration::from_secs(1);

/// A thread that listens until this value is dropped.
pub struct Listener {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // an error means that it panicked, which is already logged
            let _ = thread.join();
        }
    }
}

type NotificationHandler = Arc<dyn Fn(&str) + Send + Sync>;

impl Db {
    /// Notifies the other nodes with this payload. On SQLite there are no other nodes.
    ///
    /// # Errors
    /// Errors of the database.
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

    /// Calls `heard` with the payload of each notification, and with an empty payload after each connection, since
    /// earlier notifications may have been missed. Returns `None` on SQLite. If possible, it listens before this
    /// returns.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub async fn listen(&self, heard: impl Fn(&str) + Send + Sync + 'static) -> Result<Option<Listener>> {
        if self.is_single_node() {
            return Ok(None);
        }
        let (opener, over) = (self.opener().clone(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&over);
        let (listens, begun) = oneshot::channel();
        let listens = Mutex::new(Some(listens));
        let heard: NotificationHandler = Arc::new(move |payload: &str| {
            heard(payload);
            if let Some(listens) = listens.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // an error means that the start no longer waits
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
struct ListenerState {
    over: AtomicBool,
    seen: Mutex<Instant>,
}

impl ListenerState {
    fn see(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silence(&self) -> Duration {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Listens on a thread of its own, and replaces the thread when the server does not respond: a blocking call to the
/// server cannot be interrupted.
fn keep_listening(opener: &Opener, over: &AtomicBool, heard: &NotificationHandler) {
    while !over.load(Ordering::Acquire) {
        let watch =
            Arc::new(ListenerState { over: AtomicBool::new(false), seen: Mutex::new(Instant::now()) });
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
                    tracing::warn!("notification connection timed out; reconnecting");
                }
                watch.over.store(true, Ordering::Release);
                // usually short: the thread must not be interrupted while it connects, when the process ends
                let began = Instant::now();
                while !thread.is_finished() && began.elapsed() < END {
                    thread::sleep(LOOK);
                }
            }
            Err(error) => tracing::error!(%error, "notification thread not started"),
        }
        wait(RECONNECT, over);
    }
}

fn listen(opener: &Opener, watch: &ListenerState, heard: &NotificationHandler) {
    if let Ok(AnyConnection::Postgres(mut connection)) = opener.open()
        && let Err(error) = follow(&mut connection, watch, heard)
    {
        tracing::warn!(%error, "notification connection failed; reconnecting");
    }
}

/// Reads notifications until the watch ends.
fn follow(
    connection: &mut PgConnection,
    watch: &ListenerState,
    heard: &NotificationHandler,
) -> QueryResult<()> {
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
