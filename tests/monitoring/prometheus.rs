//! A real Prometheus, on a free port and with its own files.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::monitoring::files::text;
use crate::support::Service;

/// Longer than anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The interval between two checks of a condition.
const LOOK: Duration = Duration::from_millis(50);

/// A running Prometheus that stops when the value is dropped.
pub struct Prometheus {
    base: String,
    http: reqwest::Client,
    child: Child,
    dir: TempDir,
}

impl Prometheus {
    /// Starts a server that scrapes this service every second, with the committed configuration otherwise.
    pub async fn start(service: &Service) -> Self {
        let dir = TempDir::new().expect("a directory");
        let target = service.base.strip_prefix("http://").expect("an address");
        let committed = text("prometheus/prometheus.yml");
        let config = committed.replace("service:8083", target).replace("_interval: 10s", "_interval: 1s");
        assert!(config.contains(target) && config.contains("scrape_interval: 1s"), "{committed}");
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("the configuration");
        std::fs::write(dir.path().join("alerts.yml"), text("prometheus/alerts.yml")).expect("the rules");
        let child = Command::new("prometheus")
            .args([
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                "--web.listen-address=127.0.0.1:0",
            ])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("log")).expect("a file for its log"))
            .spawn()
            .expect("prometheus is not installed: run the tests by `make test`, which installs it");
        let mut prometheus = Self { base: String::new(), http: service.http.clone(), child, dir };
        prometheus.base = prometheus.address().await;
        prometheus
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("its log")
    }

    /// Returns the address that it reports once it listens.
    async fn address(&mut self) -> String {
        let began = Instant::now();
        loop {
            let log = self.log();
            let listening = log.lines().find(|line| line.contains("msg=\"Listening on\""));
            if let Some(address) =
                listening.and_then(|line| line.split("address=").nth(1)?.split_whitespace().next())
            {
                return format!("http://{address}");
            }
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "it does not listen ({ended:?}): {log}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns the response to a path, or `None` while the server is not ready.
    async fn get(&self, path: &str) -> Option<Value> {
        let response = self.http.get(format!("{}{path}", self.base)).send().await.ok()?;
        let (status, text) = (response.status(), response.text().await.ok()?);
        if status == 503 {
            return None;
        }
        let body: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {status} {e}: {text}"));
        assert_eq!(body["status"], "success", "{path}: {body}");
        Some(body["data"].clone())
    }

    /// Returns the numbers that a query yields now. Panics if Prometheus cannot parse it.
    pub async fn query(&self, query: &str) -> Vec<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.get(&format!("/api/v1/query?query={encoded}")).await.unwrap_or_default();
        let series = data["result"].as_array().map_or(&[][..], Vec::as_slice);
        series
            .iter()
            .map(|one| one["value"][1].as_str().expect("a value").parse().expect("a number"))
            .collect()
    }

    /// Returns the numbers that a query yields, once there are any.
    pub async fn wait_for(&self, query: &str) -> Vec<f64> {
        let began = Instant::now();
        loop {
            let numbers = self.query(query).await;
            if !numbers.is_empty() {
                return numbers;
            }
            assert!(began.elapsed() < PATIENCE, "nothing to show for {query}; {}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns the loaded rules, once each was evaluated on the service's data.
    pub async fn rules_once_evaluated(&self) -> Vec<Value> {
        let scraped_at = self.wait_for("max(timestamp(up{job=\"fanfare\"} == 1))").await[0];
        let began = Instant::now();
        loop {
            let data = self.get("/api/v1/rules").await.unwrap_or_default();
            let groups = data["groups"].as_array().map_or(&[][..], Vec::as_slice);
            let evaluated = groups.iter().all(|group| {
                let at = group["lastEvaluation"]
                    .as_str()
                    .and_then(|at| chrono::DateTime::parse_from_rfc3339(at).ok());
                at.is_some_and(|at| at.timestamp_millis() as f64 > scraped_at * 1000.0)
            });
            if evaluated && !groups.is_empty() {
                return groups
                    .iter()
                    .flat_map(|group| group["rules"].as_array().expect("rules").clone())
                    .collect();
            }
            assert!(began.elapsed() < PATIENCE, "the rules were not evaluated: {data}; {}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // it fails if it has already ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
