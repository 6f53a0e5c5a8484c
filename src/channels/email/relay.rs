//! A mail server, and the connections to it that are not in use.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::connection::{Connection, Opener, Unopened};
use super::message::Mail;
use super::settings::Server;
use crate::channels::Answer;

/// Connections that were not used for so long are closed: before the server does, which waits for minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// After so long the server is asked whether it is still there.
const PING_AFTER: Duration = Duration::from_secs(15);
/// How long a server that could not be used is left alone, while there are others.
const REST: Duration = Duration::from_secs(30);
/// An attempt that was given up after so long in opening a connection was given up because of that.
const SLOW_OPENING: Duration = Duration::from_secs(3);

/// A server.
pub(super) struct Relay {
    server: Server,
    tls: Option<TlsConnector>,
    hello_name: Option<String>,
    mails_per_connection: u32,
    rests_until: Mutex<Option<Instant>>,
    /// A permit for each connection that it may have at once.
    slots: Arc<Semaphore>,
    idle: Arc<Idle>,
}

impl Relay {
    /// For this server.
    pub(super) fn new(
        server: Server,
        tls: Option<TlsConnector>,
        hello_name: Option<String>,
        mails_per_connection: u32,
    ) -> Self {
        let most = server.connections.and_then(|most| usize::try_from(most).ok());
        let slots = Arc::new(Semaphore::new(most.unwrap_or(Semaphore::MAX_PERMITS).max(1)));
        let (rests_until, idle) = (Mutex::default(), Arc::default());
        Self { server, tls, hello_name, mails_per_connection, rests_until, slots, idle }
    }

    /// Its share of the mails, never none: it stands in for others.
    pub(super) fn weight(&self) -> u32 {
        self.server.weight.max(1)
    }

    /// Whether it could not be used a short time ago.
    pub(super) fn rests(&self) -> bool {
        self.rests_until().is_some_and(|until| Instant::now() < until)
    }

    fn rests_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one attempt, over a connection that is there or a new one.
    ///
    /// # Errors
    /// When there is no connection to be had.
    pub(super) async fn deliver(&self, mail: &Mail) -> Result<Answer, Unopened> {
        // never closed; what is idle was put there by who had a permit
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        loop {
            let (mut connection, is_new) = match self.idle.take().await {
                Some(connection) => (connection, false),
                None => (self.open().await?, true),
            };
            match connection.deliver(mail).await {
                Ok(answer) => {
                    self.keep(connection, slot);
                    return Ok(answer);
                }
                // the server has closed it while nobody looked, before the mail
                Err(lost) if lost.untouched && !is_new => {}
                Err(lost) => return Ok(lost.answer),
            }
        }
    }

    async fn open(&self) -> Result<Box<Connection>, Unopened> {
        let opener =
            Opener { server: &self.server, tls: self.tls.as_ref(), hello_name: self.hello_name.as_deref() };
        let mut opening = Opening { relay: self, began: Instant::now(), is_over: false };
        let opened = Connection::open(&opener).await;
        opening.is_over = true;
        opened.map(Box::new).inspect(|_| self.wake()).map_err(|why| match why {
            // says nothing of the server
            Unopened::LocalFault => Unopened::LocalFault,
            Unopened::Unusable(why) => {
                let Server { host, port, .. } = &self.server;
                self.rest(&why);
                Unopened::Unusable(format!("the mail server {host}:{port} cannot be used: {why}"))
            }
        })
    }

    fn rest(&self, why: &str) {
        let until = self.rests_until().replace(Instant::now() + REST);
        // once for each time: mails that go out by the others are no reason for anybody to look
        if until.is_none_or(|until| until <= Instant::now()) {
            let Server { host, port, .. } = &self.server;
            tracing::warn!(%host, port, why, "a mail server cannot be used; others take over, if there are any");
        }
    }

    fn wake(&self) {
        if self.rests_until().take().is_some() {
            let Server { host, port, .. } = &self.server;
            tracing::info!(%host, port, "a mail server can be used again");
        }
    }

    fn keep(&self, connection: Box<Connection>, slot: Option<OwnedSemaphorePermit>) {
        if connection.mails() >= self.mails_per_connection {
            connection.quit(slot);
        } else if connection.is_in_step() {
            self.idle.keep(connection);
        }
    }
}

/// Notes that a server is slow although nobody waits for it any more.
struct Opening<'r> {
    relay: &'r Relay,
    began: Instant,
    is_over: bool,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.began.elapsed() >= SLOW_OPENING {
            self.relay.rest("nobody waited any longer for it to answer");
        }
    }
}

/// Connections that are not in use, the longest unused first.
#[derive(Default)]
struct Idle(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    connections: VecDeque<(Instant, Box<Connection>)>,
    is_swept: bool,
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one used last that is still open.
    async fn take(&self) -> Option<Box<Connection>> {
        loop {
            let (since, mut connection) = self.lock().connections.pop_back()?;
            let age = since.elapsed();
            if age < IDLE_TIMEOUT && connection.is_open() && (age < PING_AFTER || connection.ping().await) {
                return Some(connection);
            }
        }
    }

    fn keep(self: &Arc<Self>, connection: Box<Connection>) {
        let mut kept = self.lock();
        kept.connections.push_back((Instant::now(), connection));
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Takes leave of those that were not used for long; answers whether any are left.
    fn close_old(&self) -> bool {
        let mut kept = self.lock();
        while kept.connections.front().is_some_and(|(since, _)| since.elapsed() >= IDLE_TIMEOUT) {
            if let Some((_, connection)) = kept.connections.pop_front() {
                connection.quit(None);
            }
        }
        kept.is_swept = !kept.connections.is_empty();
        kept.is_swept
    }
}

/// Runs while there are connections that are not in use.
async fn sweep(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT / 2).await;
        if !idle.upgrade().is_some_and(|idle| idle.close_old()) {
            return;
        }
    }
}
