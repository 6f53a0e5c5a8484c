//! A mail server, and its idle connections.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::connection::{ConnectError, Opener, SmtpConnection};
use super::message::Mail;
use super::settings::MailServer;
use crate::channels::report::AttemptReport;

/// Idle connections are closed after this time: sooner than by the server, which waits for minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The idle time after which a connection is checked with `NOOP` before use.
const PING_AFTER: Duration = Duration::from_secs(15);
/// The time for which an unusable server is avoided while there are others.
const REST: Duration = Duration::from_secs(30);
/// An attempt abandoned after opening a connection for this long counts as a failure of the server.
const SLOW_OPENING: Duration = Duration::from_secs(3);

/// A server.
pub(super) struct Relay {
    server: MailServer,
    tls: Option<TlsConnector>,
    hello_name: Option<String>,
    mails_per_connection: u32,
    rests_until: Mutex<Option<Instant>>,
    /// A permit for each connection that it may have at once.
    slots: Arc<Semaphore>,
    idle: Arc<SmtpPool>,
}

impl Relay {
    /// Creates a relay for this server.
    pub(super) fn new(
        server: MailServer,
        tls: Option<TlsConnector>,
        hello_name: Option<String>,
        mails_per_connection: u32,
    ) -> Self {
        let most = server.connections.and_then(|most| usize::try_from(most).ok());
        let slots = Arc::new(Semaphore::new(most.unwrap_or(Semaphore::MAX_PERMITS).max(1)));
        let (rests_until, idle) = (Mutex::default(), Arc::default());
        Self { server, tls, hello_name, mails_per_connection, rests_until, slots, idle }
    }

    /// Its share of the mails. Never 0, since it stands in for the others.
    pub(super) fn weight(&self) -> u32 {
        self.server.weight.max(1)
    }

    /// Returns true if the server was unusable a short time ago.
    pub(super) fn rests(&self) -> bool {
        self.rests_until().is_some_and(|until| Instant::now() < until)
    }

    fn rests_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one attempt, over an idle connection or a new one.
    ///
    /// # Errors
    /// If no connection could be opened.
    pub(super) async fn deliver(&self, mail: &Mail) -> Result<AttemptReport, ConnectError> {
        // the semaphore is never closed; every idle connection was opened under a permit
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
                // the server closed the idle connection before the mail
                Err(lost) if lost.untouched && !is_new => {}
                Err(lost) => return Ok(lost.answer),
            }
        }
    }

    async fn open(&self) -> Result<Box<SmtpConnection>, ConnectError> {
        let opener =
            Opener { server: &self.server, tls: self.tls.as_ref(), hello_name: self.hello_name.as_deref() };
        let mut opening = OpenTimer { relay: self, began: Instant::now(), is_over: false };
        let opened = SmtpConnection::open(&opener).await;
        opening.is_over = true;
        opened.map(Box::new).inspect(|_| self.wake()).map_err(|why| match why {
            // not the server's fault
            ConnectError::LocalFault => ConnectError::LocalFault,
            ConnectError::Unusable(why) => {
                let MailServer { host, port, .. } = &self.server;
                self.rest(&why);
                ConnectError::Unusable(format!("the mail server {host}:{port} cannot be used: {why}"))
            }
        })
    }

    fn rest(&self, why: &str) {
        let until = self.rests_until().replace(Instant::now() + REST);
        // logged once per outage: mails that go out through the other servers need no further warning
        if until.is_none_or(|until| until <= Instant::now()) {
            let MailServer { host, port, .. } = &self.server;
            tracing::warn!(%host, port, why, "mail server failed; using the others, if there are any");
        }
    }

    fn wake(&self) {
        if self.rests_until().take().is_some() {
            let MailServer { host, port, .. } = &self.server;
            tracing::info!(%host, port, "mail server recovered");
        }
    }

    fn keep(&self, connection: Box<SmtpConnection>, slot: Option<OwnedSemaphorePermit>) {
        if connection.mails() >= self.mails_per_connection {
            connection.quit(slot);
        } else if connection.is_in_step() {
            self.idle.keep(connection);
        }
    }
}

/// Marks a server as slow when the attempt is abandoned while the connection opens.
struct OpenTimer<'r> {
    relay: &'r Relay,
    began: Instant,
    is_over: bool,
}

impl Drop for OpenTimer<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.began.elapsed() >= SLOW_OPENING {
            self.relay.rest("the attempt timed out while the connection was opened");
        }
    }
}

/// The idle connections, the longest unused first.
#[derive(Default)]
struct SmtpPool(Mutex<IdleConnections>);

#[derive(Default)]
struct IdleConnections {
    connections: VecDeque<(Instant, Box<SmtpConnection>)>,
    is_swept: bool,
}

impl SmtpPool {
    fn lock(&self) -> MutexGuard<'_, IdleConnections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the most recently used connection that is still open.
    async fn take(&self) -> Option<Box<SmtpConnection>> {
        loop {
            let (since, mut connection) = self.lock().connections.pop_back()?;
            let age = since.elapsed();
            if age < IDLE_TIMEOUT && connection.is_open() && (age < PING_AFTER || connection.ping().await) {
                return Some(connection);
            }
        }
    }

    fn keep(self: &Arc<Self>, connection: Box<SmtpConnection>) {
        let mut kept = self.lock();
        kept.connections.push_back((Instant::now(), connection));
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes the connections that were idle for too long. Returns true if any are left.
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

/// Closes old connections for as long as any are idle.
async fn sweep(idle: Weak<SmtpPool>) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT / 2).await;
        if !idle.upgrade().is_some_and(|idle| idle.close_old()) {
            return;
        }
    }
}
