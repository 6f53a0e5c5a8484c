//! What the webhook channel knows of endpoints, and notes of them.
//!
//! Both are in memory, and bounded. What is known is read again after [`KNOWN_FOR`], so a change at another node holds
//! here within seconds. What is noted is written together, [`WRITE_EVERY`] so often; what a crash loses of it is a
//! second of counting.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::model::{Settings, WebhookEndpoint};
use super::repo;
use crate::channels::webhook::{Came, Directory, Endpoint, Finding};
use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::kinds::Disabled;
use crate::lifecycle::Shutdown;
use crate::live::{EndpointChange, Live};

/// So long what was read is taken for what is.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// So often what was noted is written.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Endpoints that are written of in one transaction.
const AT_ONCE: usize = 500;
/// Endpoints that are known or noted at once; of more, none are remembered.
const MOST: usize = 10_000;

/// The directory of this node.
pub struct Book {
    db: Db,
    clock: Clock,
    live: Live,
    settings: Settings,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    known: HashMap<String, Known>,
    noted: HashMap<String, Noted>,
}

struct Known {
    endpoint: Endpoint,
    /// Whether a success is news.
    is_failing: bool,
    read_at: Instant,
}

/// What came of the attempts since the last time that it was written.
#[derive(Debug, Clone, Copy, Default)]
struct Noted {
    /// It took a message, before it failed.
    has_recovered: bool,
    failures: u32,
    /// The first of them.
    since: Option<Timestamp>,
    is_gone: bool,
}

impl Noted {
    fn add(&mut self, came: Came, now: Timestamp) {
        match came {
            Came::Taken => *self = Self { has_recovered: true, ..Self::default() },
            Came::Failed | Came::Gone => {
                self.failures = self.failures.saturating_add(1);
                self.since = self.since.or(Some(now));
                self.is_gone |= came == Came::Gone;
            }
        }
    }

    /// What was noted after this is added to it.
    fn and_then(self, later: Self) -> Self {
        if later.has_recovered {
            return later;
        }
        Self {
            failures: self.failures.saturating_add(later.failures),
            since: self.since.or(later.since),
            is_gone: self.is_gone || later.is_gone,
            ..self
        }
    }
}

impl Book {
    /// Over this database; what is disabled or enabled is told to those who watch.
    pub fn new(db: Db, clock: Clock, live: Live, settings: Settings) -> Self {
        Self { db, clock, live, settings, pages: Mutex::default() }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is known of this URL is read anew.
    pub(super) fn forget(&self, url: &str) {
        self.pages().known.remove(url);
    }

    /// Tells those who watch whether it is sent to.
    pub(super) fn tell(&self, endpoint: &WebhookEndpoint, at: Timestamp) {
        self.live.endpoint_changed(EndpointChange {
            id: endpoint.id,
            is_enabled: endpoint.is_enabled,
            reason: endpoint.disabled_reason,
            at,
        });
    }

    /// Writes what is noted, until the shutdown and once more then.
    pub async fn run(self: std::sync::Arc<Self>, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            tokio::select! {
                () = shutdown.wait() => {}
                () = tokio::time::sleep(WRITE_EVERY) => {}
            }
            if let Err(error) = self.write().await {
                tracing::warn!(%error, "what came of webhooks could not be written down; it is tried again");
            }
        }
    }

    /// Writes what was noted since the last time.
    ///
    /// # Errors
    /// Those of the database; then it is noted still.
    pub async fn write(&self) -> Result<()> {
        loop {
            let lines = self.take_notes();
            let were_all = lines.len() < AT_ONCE;
            if !lines.is_empty() {
                self.write_lines(lines).await?;
            }
            if were_all {
                return Ok(());
            }
        }
    }

    /// In one order, so that two nodes do not wait for each other.
    fn take_notes(&self) -> Vec<(String, Noted)> {
        let noted = &mut self.pages().noted;
        let mut urls: Vec<String> = noted.keys().take(AT_ONCE).cloned().collect();
        urls.sort();
        urls.into_iter().filter_map(|url| noted.remove_entry(&url)).collect()
    }

    async fn write_lines(&self, lines: Vec<(String, Noted)>) -> Result<()> {
        let (now, settings) = (self.clock.now(), self.settings.clone());
        let writing = lines.clone();
        let write = move |c: &mut AnyConnection| {
            let written = writing.iter().map(|(url, noted)| write_down(c, url, *noted, (now, &settings)));
            written.collect::<Result<Vec<_>>>()
        };
        match self.db.write(write).await {
            Ok(disabled) => {
                let mut pages = self.pages();
                for (url, _) in &lines {
                    pages.known.remove(url);
                }
                drop(pages);
                for endpoint in disabled.into_iter().flatten() {
                    tracing::warn!(
                        endpoint = %endpoint.id,
                        failures = endpoint.failures,
                        reason = endpoint.disabled_reason.map(Disabled::as_str),
                        "a webhook's endpoint is disabled; its messages fail until it is enabled"
                    );
                    self.tell(&endpoint, now);
                }
                Ok(())
            }
            Err(error) => {
                let mut pages = self.pages();
                for (url, before) in lines {
                    let later = pages.noted.remove(&url).unwrap_or_default();
                    pages.noted.insert(url, before.and_then(later));
                }
                Err(error)
            }
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, url: &str, known: Known) {
        let mut pages = self.pages();
        if pages.known.len() >= MOST {
            pages.known.retain(|_, known| known.read_at.elapsed() < KNOWN_FOR);
        }
        if pages.known.len() < MOST {
            pages.known.insert(url.to_owned(), known);
        }
    }

    async fn read(&self, url: &str) -> Result<Endpoint> {
        let at = url.to_owned();
        let found = self.db.read(move |c| repo::find_by_url(c, &at)).await?;
        let is_failing = found.as_ref().is_some_and(|found| found.failing_since.is_some());
        let endpoint = match found {
            Some(found) => found.known(self.clock.now(), &self.settings),
            None => Endpoint { secrets: self.settings.defaults.clone(), disabled: None },
        };
        self.remember(url, Known { endpoint: endpoint.clone(), is_failing, read_at: Instant::now() });
        Ok(endpoint)
    }
}

/// Answers the endpoint if it is disabled by this.
fn write_down(
    connection: &mut AnyConnection,
    url: &str,
    noted: Noted,
    (now, settings): (Timestamp, &Settings),
) -> Result<Option<WebhookEndpoint>> {
    let found = repo::find_by_url_for_update(connection, url)?;
    let is_new = found.is_none();
    let mut endpoint = found.unwrap_or_else(|| WebhookEndpoint::new(url.to_owned(), now));
    if noted.has_recovered {
        endpoint.recover();
    }
    let mut disabled = None;
    if let Some(since) = noted.since {
        let is_too_long = endpoint.fail(noted.failures, since, (now, settings));
        disabled = match (noted.is_gone && endpoint.is_enabled, is_too_long) {
            (true, _) => Some(Disabled::Gone),
            (false, true) => Some(Disabled::Failing),
            (false, false) => None,
        };
    }
    if let Some(why) = disabled {
        endpoint.disable(why, now);
    }
    let is_of_interest = endpoint.is_registered || !endpoint.is_enabled || endpoint.failing_since.is_some();
    match (is_new, is_of_interest) {
        (true, true) => repo::insert(connection, &endpoint)?,
        (false, true) => repo::update(connection, &endpoint)?,
        (false, false) => drop(repo::delete(connection, endpoint.id)?),
        (true, false) => {}
    }
    Ok(disabled.map(|_| endpoint))
}

impl Directory for Book {
    fn find<'a>(&'a self, url: &'a str) -> Finding<'a> {
        let known = {
            let pages = self.pages();
            let known = pages.known.get(url).filter(|known| known.read_at.elapsed() < KNOWN_FOR);
            known.map(|known| known.endpoint.clone())
        };
        match known {
            Some(known) => Box::pin(std::future::ready(Ok(known))),
            None => Box::pin(self.read(url)),
        }
    }

    fn note(&self, url: &str, came: Came) {
        let now = self.clock.now();
        let mut pages = self.pages();
        if let Some(noted) = pages.noted.get_mut(url) {
            return noted.add(came, now);
        }
        // mostly all is well, and was
        let is_news = came != Came::Taken || pages.known.get(url).is_none_or(|known| known.is_failing);
        if is_news && pages.noted.len() < MOST {
            let mut noted = Noted::default();
            noted.add(came, now);
            pages.noted.insert(url.to_owned(), noted);
        }
    }
}
