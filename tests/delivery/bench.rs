//! The service with a provider that logs each request, and access to the tables.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::time::Duration;

use diesel::prelude::*;
use fanfare::clock::Clock;
use fanfare::db::schema::{dead_letter, message};
use fanfare::db::types::{ClientId, MailingId, MessageId};
use fanfare::db::{Db, DbOptions};
use fanfare::kinds::MessageStatus;
use fanfare::sandbox::{Faults, Sandbox, SandboxArgs};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::api::Progress;
use crate::support::checker::{Request, read_requests};
use crate::support::{Database, Service, balance};

/// The length of a window that closes only after the test.
pub const LONG: Duration = Duration::from_secs(600);

/// The service and its provider.
pub struct Bench {
    service: Service,
    pub provider: Option<Sandbox>,
    address: SocketAddr,
    log: PathBuf,
    db: Db,
    _dir: TempDir,
}

impl Deref for Bench {
    type Target = Service;
    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

/// The row of a message.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub client: Option<ClientId>,
    pub recipient: String,
    pub status: MessageStatus,
    pub attempts: i16,
    pub error: Option<String>,
}

impl Bench {
    pub async fn start(kind: Database, settings: &[(&str, &str)]) -> Self {
        Self::with_faults(kind, settings, Faults::default()).await
    }

    pub async fn with_faults(kind: Database, settings: &[(&str, &str)], faults: Faults) -> Self {
        let dir = TempDir::new().expect("a directory");
        let log = dir.path().join("requests.jsonl");
        let args =
            SandboxArgs { log: Some(log.clone()), faults, seed: Some(7), ..SandboxArgs::on_free_port() };
        let provider = Sandbox::start(args).expect("a provider");
        let (address, base) = (provider.addr(), provider.base_url());
        let mut all = vec![("sms.base_url", base.as_str())];
        all.extend(settings);
        let service = Service::start_with(kind, &all).await;
        let options = DbOptions { pool_size: 1, ..DbOptions::new(service.db.url.clone()) };
        let db =
            tokio::task::spawn_blocking(|| Db::open(options)).await.expect("a thread").expect("a database");
        Self { service, provider: Some(provider), address, log, db, _dir: dir }
    }

    pub fn set_faults(&self, faults: Faults) {
        self.provider.as_ref().expect("a provider").set_faults(faults).expect("faults");
    }

    /// Stops the provider, so that connections are refused.
    pub async fn stop_provider(&mut self) {
        self.provider.take().expect("a provider").stop().await;
    }

    /// Starts the provider again at its address, with the same log.
    pub fn start_provider(&mut self) {
        let args =
            SandboxArgs { listen: self.address, log: Some(self.log.clone()), ..SandboxArgs::default() };
        self.provider = Some(Sandbox::start(args).expect("the provider's address"));
    }

    /// Returns the test's own connection to the service's database.
    pub fn database(&self) -> &Db {
        &self.db
    }

    /// Returns all requests to the provider, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        read_requests(&self.log)
    }

    /// Returns the requests of this mailing.
    pub async fn requests_of(&self, mailing: &str) -> Vec<Request> {
        let ids: HashSet<String> = self.rows(mailing).await.into_iter().map(|row| row.id).collect();
        self.requests().into_iter().filter(|request| ids.contains(&request.id)).collect()
    }

    /// Creates clients from CSV.
    pub async fn clients(&self, csv: String) {
        let report = self.import_csv(csv).await.expect("a report");
        assert_eq!(report["rejected_count"], 0, "{report}");
    }

    /// Creates a mailing. Returns its id.
    pub async fn create(&self, body: Value) -> String {
        self.post("/mailings", body).await["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until its counts are finalized. At every poll they balance, and final states never decrease.
    pub async fn watched(&self, id: &str) -> Value {
        let last = std::cell::Cell::new(0);
        let end = self
            .wait_for(&format!("/mailings/{id}"), |mailing| {
                let counts = &mailing["counts"];
                assert!(balance(counts), "{counts}");
                let done = finals(counts);
                assert!(done >= last.replace(done), "{counts}");
                !mailing["finished_at"].is_null()
            })
            .await;
        end["counts"].clone()
    }

    /// Waits until its counts are finalized, and compares them with its rows.
    pub async fn closed(&self, id: &str) -> Value {
        let counts = self.watched(id).await;
        let rows = self.rows(id).await;
        let mut by_status: BTreeMap<&str, i64> = BTreeMap::new();
        rows.iter().for_each(|row| *by_status.entry(row.status.as_str()).or_default() += 1);
        let of = |name: &str| by_status.get(name).copied().unwrap_or_default();
        let found = json!({"total": rows.len(), "queued": of("queued"), "sending": 0, "sent": of("sent"),
            "failed": of("failed"), "expired": of("expired"), "cancelled": of("cancelled")});
        assert_eq!(counts, found, "the counts and the rows");
        let clients: HashSet<_> = rows.iter().map(|row| row.client).collect();
        assert_eq!(clients.len(), rows.len(), "each client has one message");
        counts
    }

    /// Returns the rows of a mailing.
    pub async fn rows(&self, mailing: &str) -> Vec<Row> {
        let mailing: MailingId = mailing.parse().expect("an id");
        let rows = self.db.read(move |c| {
            Ok(message::table
                .filter(message::mailing_number.eq(fanfare::mailings::repo::number(c, mailing)?))
                .select((
                    message::id,
                    message::client_id,
                    message::recipient,
                    message::status,
                    message::attempts,
                    message::error,
                ))
                .load::<(MessageId, Option<ClientId>, String, i16, i16, Option<String>)>(c)?)
        });
        let rows = rows.await.expect("the rows").into_iter();
        rows.map(|(id, client, recipient, status, attempts, error)| Row {
            id: id.to_string(),
            client,
            recipient,
            status: MessageStatus::from_code(status).expect("a status"),
            attempts,
            error,
        })
        .collect()
    }

    /// Returns the number of a mailing's dead letters.
    pub async fn dead_letters(&self, mailing: &str) -> i64 {
        let mailing: MailingId = mailing.parse().expect("an id");
        let count = self.db.read(move |c| {
            Ok(dead_letter::table.filter(dead_letter::mailing_id.eq(mailing)).count().get_result(c)?)
        });
        count.await.expect("a count")
    }

    /// Waits until the provider has received `count` requests.
    pub async fn received(&self, count: u64) {
        let so_far = || self.provider.as_ref().expect("a provider").stats().requests;
        let mut progress = Progress::begin();
        while so_far() < count {
            assert!(progress.goes_on(so_far()), "only {} of {count} requests", so_far());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asserts that each sent message was received exactly once, and the others not at all, except attempts that were
    /// aborted at the end of the window.
    pub async fn each_received_once(&self, mailing: &str) {
        let rows = self.rows(mailing).await;
        let mut times: HashMap<String, usize> = HashMap::new();
        for request in self.requests_of(mailing).await.into_iter().filter(Request::is_received) {
            *times.entry(request.id).or_default() += 1;
        }
        for row in &rows {
            let received = times.get(&row.id).copied().unwrap_or_default();
            match row.status {
                MessageStatus::Sent => assert_eq!(received, 1, "{row:?}"),
                MessageStatus::Expired if row.attempts == 1 => assert!(received <= 1, "{row:?}"),
                _ => assert_eq!(received, 0, "{row:?}"),
            }
        }
    }
}

/// Returns the number of messages in a final state.
pub fn finals(counts: &Value) -> i64 {
    ["sent", "failed", "expired", "cancelled"]
        .iter()
        .map(|name| counts[name].as_i64().expect("a count"))
        .sum()
}

/// Parses a time of the API to microseconds since the epoch.
pub fn micros(time: &Value) -> i64 {
    time.as_str()
        .expect("a time")
        .parse::<chrono::DateTime<chrono::Utc>>()
        .expect("RFC 3339")
        .timestamp_micros()
}

/// Returns the current time in microseconds since the epoch.
pub fn now() -> i64 {
    Clock::System.now().micros()
}

/// Returns lines of CSV with these phone numbers and this tag.
pub fn lines(numbers: std::ops::Range<u64>, tag: &str) -> String {
    numbers.map(|number| format!("{number},{tag}\n")).collect()
}
