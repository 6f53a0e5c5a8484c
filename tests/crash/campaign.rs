//! Runs a mailing through the real binary, and the checker at its end.

use std::time::Duration;

use fanfare::clock::Clock;
use fanfare::config::{self, Config};
use fanfare::db::AnyConnection;
use fanfare::kinds::ChannelKind;
use serde_json::{Value, json};

use crate::process::{Launch, Limit, Process, Provider, Server};
use crate::support::checker::{Interruption, Limits, Report, check};
use crate::support::{Database, TestDb, after, balance, evidence};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");

/// A longer node lease for tests with several nodes: on a busy machine a live node may be late by more than a second,
/// be declared dead, and repeat its unrecorded messages.
pub const PATIENT: (&str, &str) = ("DELIVERY_LEASE", "4s");

/// A database, a provider that outlives the service, the service's settings, and the interruptions of the service.
pub struct Campaign {
    pub provider: Provider,
    settings: Vec<(String, String)>,
    starts: usize,
    interruptions: Vec<Interruption>,
    pub db: TestDb,
}

impl Campaign {
    /// Creates a campaign with these faults and settings. The node lease is short, so that a dead node's leases are
    /// soon taken over.
    pub async fn new(kind: Database, faults: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::on(TestDb::new(kind), faults, settings).await
    }

    /// Creates a campaign on this database.
    pub async fn on(db: TestDb, faults: &[&str], settings: &[(&str, &str)]) -> Self {
        let provider = Provider::start(BINARY, db.dir(), faults).await;
        let common = [
            ("HTTP_PORT", "0"),
            ("DATABASE_URL", db.url.as_str()),
            ("PROVIDER_BASE_URL", provider.base.as_str()),
            ("IN_APP_PROVIDER_URL", provider.base.as_str()),
            ("RATE_LIMIT_PER_CHANNEL", "0"),
            ("DELIVERY_LEASE", "1s"),
            ("DELIVERY_POLL", "100ms"),
        ];
        // if a setting occurs twice, the later one wins
        let all = common.iter().chain(settings).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { provider, settings: all, starts: 0, interruptions: Vec::new(), db }
    }

    /// Starts the service. A second one at the same time is another node.
    pub async fn serve(&mut self) -> Server {
        self.serve_with(&[], None).await
    }

    /// Starts the service with additional settings, and a limit for its files in KiB.
    pub async fn serve_with(&mut self, settings: &[(&str, &str)], file_kib: Option<u64>) -> Server {
        let name = self.name();
        let mut env = self.env();
        env.extend(settings);
        let limit = file_kib.map_or(Limit::None, Limit::FileKib);
        Server::start(&Launch { binary: BINARY, dir: self.db.dir(), name: &name, env: &env, limit }).await
    }

    /// Starts the service with additional settings, without waiting until it is ready.
    pub fn spawn(&mut self, settings: &[(&str, &str)]) -> Process {
        let name = self.name();
        let mut env = self.env();
        env.extend(settings);
        let launch =
            Launch { binary: BINARY, dir: self.db.dir(), name: &name, env: &env, limit: Limit::None };
        Process::spawn(&launch, &["serve"])
    }

    /// Returns the name of the next start, each of which has its own log.
    fn name(&mut self) -> String {
        self.starts += 1;
        format!("serve-{}", self.starts)
    }

    /// Returns the service's settings.
    pub fn env(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }

    /// Sends SIGKILL, and records it.
    pub fn kill(&mut self, process: &mut Process) {
        process.kill();
        self.interrupted(Interruption::Lost);
    }

    /// Records an interruption at the current time.
    pub fn interrupted(&mut self, moment: fn(i64) -> Interruption) {
        self.interruptions.push(moment(Clock::System.now().micros()));
    }

    /// Reads from the tables.
    pub async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut AnyConnection) -> fanfare::error::Result<T> + Send + 'static,
    ) -> T {
        evidence::open(&self.db.url).await.expect("a database").read(f).await.expect("an answer")
    }

    /// Waits until every message is final, and checks that the lists of the API agree.
    pub async fn all_final(&self, server: &Server, list: &str) {
        evidence::all_final(&self.db.url).await;
        for status in ["scheduled", "queued", "processing"] {
            let left = server.get(&format!("{list}?limit=1&status={status}")).await;
            assert_eq!(left["items"], json!([]), "{status}");
        }
    }

    /// Returns the number of times that a node died or was declared dead.
    pub fn deaths(&self) -> usize {
        self.interruptions.len()
    }

    /// Returns the limits that follow from the service's settings.
    pub fn limits(&self) -> Limits {
        let keys = self.settings.iter().filter_map(|(variable, value)| {
            let setting = config::settings().find(|setting| setting.variable == Some(variable.as_str()))?;
            Some((setting.key, value.as_str()))
        });
        let config = Config::with(&keys.collect::<Vec<_>>()).expect("a configuration");
        let factor = |number| config.retry.factor.powi(number);
        let numbers = 0..i32::try_from(config.retry.limit).expect("a small number");
        Limits {
            at_stake: Limits::at_stake(config.sms.concurrency, config.delivery.record_batch),
            delays: numbers.map(|number| config.retry.first_delay.mul_f32(factor(number))).collect(),
            rate: config.rate(ChannelKind::Sms),
        }
    }

    /// Checks a mailing with finalized counts against the whole contract.
    pub async fn check(&self, mailing: &str) -> Report {
        let id = mailing.parse().expect("an id");
        let (requests, interruptions) = (self.provider.requests(), self.interruptions.clone());
        let limits = self.limits();
        let evidence = self.read(move |c| evidence::read(c, id, requests, interruptions, limits)).await;
        let report = check(&evidence);
        println!("{report}");
        assert!(report.violations.is_empty(), "{report}\n{}", self.complaints());
        report
    }

    /// Returns the last warnings and errors in the log of each start.
    fn complaints(&self) -> String {
        let logs = (1..=self.starts).map(|start| {
            let log = self.db.dir().join(format!("serve-{start}.log"));
            let text = std::fs::read_to_string(log).expect("the log of a start");
            let unusual: Vec<&str> = text.lines().filter(|line| !line.contains("\"INFO\"")).collect();
            format!("start {start}:\n{}\n", unusual[unusual.len().saturating_sub(5)..].join("\n"))
        });
        logs.collect()
    }
}

/// Creates clients from 79030000000 on, and a mailing to them. Returns the mailing's id.
pub async fn mail(server: &Server, clients: usize, window: Duration) -> String {
    import(server, clients).await;
    let body = json!({"text": "hello", "filter": "vip", "ends_at": after(window)});
    server.post("/mailings", body).await["id"].as_str().expect("an id").to_owned()
}

/// Creates clients from 79030000000 on.
pub async fn import(server: &Server, clients: usize) {
    let report = server.import_csv(csv(clients)).await.expect("a report");
    assert_eq!(report["created"], clients, "{report}");
}

/// Returns a CSV file of clients from 79030000000 on.
pub fn csv(clients: usize) -> String {
    let rows = (0..clients).map(|i| format!("{},vip\n", 79_030_000_000 + i));
    format!("phone_number,tag\n{}", rows.collect::<String>())
}

/// Polls a mailing, and checks that its counts balance, and that its final states did not decrease since the last poll.
pub async fn look(server: &Server, mailing: &str, last: &mut i64) {
    let stats = server.get(&format!("/mailings/{mailing}/stats")).await;
    *last = checked(&stats["counts"], *last);
}

/// Waits until its counts are finalized, and checks them at each poll. Returns the counts.
pub async fn closed(server: &Server, mailing: &str, last: i64) -> Value {
    let last = std::cell::Cell::new(last);
    let over = |mailing: &Value| {
        last.set(checked(&mailing["counts"], last.get()));
        !mailing["finished_at"].is_null()
    };
    server.wait_for(&format!("/mailings/{mailing}"), over).await["counts"].clone()
}

fn checked(counts: &Value, last: i64) -> i64 {
    assert!(balance(counts), "{counts}");
    let finals =
        ["sent", "failed", "expired", "cancelled"].map(|name| counts[name].as_i64().expect("a count"));
    let finals = finals.iter().sum();
    assert!(finals >= last, "{finals} are final, and {last} were: {counts}");
    finals
}
