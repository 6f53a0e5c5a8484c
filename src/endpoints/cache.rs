//! A cache of endpoint settings for the webhook channel, and a buffer of its results.
//!
//! Both are in memory, and bounded. Settings are read again after [`KNOWN_FOR`], so a change by another node takes
//! effect within seconds. Results are written together, every [`WRITE_EVERY`]; a crash loses at most a second of
//! counting.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::model::{EndpointOptions, WebhookEndpoint};
use super::repo;
use crate::channels::webhook::{EndpointDirectory, EndpointFuture, EndpointResult, EndpointSettings};
use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::kinds::Disabled;
use crate::lifecycle::Shutdown;
use crate::live::{EndpointChange, Live};

/// The time for which cached settings are used.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// The interval at which results are written.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// The most endpoints per transaction.
const AT_ONCE: usize = 500;
/// The most endpoints in the cache, and in the buffer. Further ones are not kept.
const MOST: usize = 10_000;

/// The endpoint directory of this node.
pub struct EndpointCache {
    db: Db,
    clock: Clock,
    live: Live,
    settings: EndpointOptions,
    pages: Mutex<CacheState>,
}

#[derive(Default)]
struct CacheState {
    known: HashMap<String, CachedEndpoint>,
    noted: HashMap<String, BufferedResults>,
}

struct CachedEndpoint {
    endpoint: EndpointSettings,
    /// True if a success changes its state.
    is_failing: bool,
    read_at: Instant,
}

/// The results of the attempts since the last write.
#[derive(Debug, Clone, Copy, Default)]
struct BufferedResults {
    /// True if it accepted a message before these failures.
    has_recovered: bool,
    failures: u32,
    /// The time of the first failure.
    since: Option<Timestamp>,
    is_gone: bool,
}

impl BufferedResults {
    fn add(&mut self, came: EndpointResult, now: Timestamp) {
        match came {
            EndpointResult::Taken => *self = Self { has_recovered: true, ..Self::default() },
            EndpointResult::Failed | EndpointResult::Gone => {
                self.failures = self.failures.saturating_add(1);
                self.since = self.since.or(Some(now));
                self.is_gone |= came == EndpointResult::Gone;
            }
        }
    }

    /// Returns these results followed by later ones.
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

impl EndpointCache {
    /// Creates a directory. Endpoints that are disabled or enabled are published to subscribers of the event stream.
    pub fn new(db: Db, clock: Clock, live: Live, settings: EndpointOptions) -> Self {
        Self { db, clock, live, settings, pages: Mutex::default() }
    }

    pub(super) fn settings(&self) -> &EndpointOptions {
        &self.settings
    }

    /// Discards the cached settings of this URL.
    pub(super) fn forget(&self, url: &str) {
        self.pages().known.remove(url);
    }

    /// Publishes an endpoint's state to subscribers of the event stream.
    pub(super) fn tell(&self, endpoint: &WebhookEndpoint, at: Timestamp) {
        self.live.endpoint_changed(EndpointChange {
            id: endpoint.id,
            is_enabled: endpoint.is_enabled,
            reason: endpoint.disabled_reason,
            at,
        });
    }

    /// Writes the results until the shutdown, and once more at the end.
    pub async fn run(self: std::sync::Arc<Self>, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            tokio::select! {
                () = shutdown.wait() => {}
                () = tokio::time::sleep(WRITE_EVERY) => {}
            }
            if let Err(error) = self.write().await {
                tracing::warn!(%error, "webhook results could not be stored; retrying");
            }
        }
    }

    /// Writes the results since the last write.
    ///
    /// # Errors
    /// Database errors; then the results stay in the buffer.
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

    /// Removes a batch of results from the buffer, sorted by URL, so that two nodes do not deadlock.
    fn take_notes(&self) -> Vec<(String, BufferedResults)> {
        let noted = &mut self.pages().noted;
        let mut urls: Vec<String> = noted.keys().take(AT_ONCE).cloned().collect();
        urls.sort();
        urls.into_iter().filter_map(|url| noted.remove_entry(&url)).collect()
    }

    async fn write_lines(&self, lines: Vec<(String, BufferedResults)>) -> Result<()> {
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
                        "webhook endpoint disabled; its messages fail until it is enabled"
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

    fn pages(&self) -> MutexGuard<'_, CacheState> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, url: &str, known: CachedEndpoint) {
        let mut pages = self.pages();
        if pages.known.len() >= MOST {
            pages.known.retain(|_, known| known.read_at.elapsed() < KNOWN_FOR);
        }
        if pages.known.len() < MOST {
            pages.known.insert(url.to_owned(), known);
        }
    }

    async fn read(&self, url: &str) -> Result<EndpointSettings> {
        let at = url.to_owned();
        let found = self.db.read(move |c| repo::find_by_url(c, &at)).await?;
        let is_failing = found.as_ref().is_some_and(|found| found.failing_since.is_some());
        let endpoint = match found {
            Some(found) => found.known(self.clock.now(), &self.settings),
            None => EndpointSettings { secrets: self.settings.defaults.clone(), disabled: None },
        };
        self.remember(
            url,
            CachedEndpoint { endpoint: endpoint.clone(), is_failing, read_at: Instant::now() },
        );
        Ok(endpoint)
    }
}

/// Stores the results of an endpoint. Returns the endpoint if they disable it.
fn write_down(
    connection: &mut AnyConnection,
    url: &str,
    noted: BufferedResults,
    (now, settings): (Timestamp, &EndpointOptions),
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

impl EndpointDirectory for EndpointCache {
    fn find<'a>(&'a self, url: &'a str) -> EndpointFuture<'a> {
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

    fn note(&self, url: &str, came: EndpointResult) {
        let now = self.clock.now();
        let mut pages = self.pages();
        if let Some(noted) = pages.noted.get_mut(url) {
            return noted.add(came, now);
        }
        // most results are a success after a success, which needs no write
        let is_news =
            came != EndpointResult::Taken || pages.known.get(url).is_none_or(|known| known.is_failing);
        if is_news && pages.noted.len() < MOST {
            let mut noted = BufferedResults::default();
            noted.add(came, now);
            pages.noted.insert(url.to_owned(), noted);
        }
    }
}
