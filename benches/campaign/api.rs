//! A client of the part of the service's API that the benchmark calls.

use std::time::{Duration, Instant};

use fanfare::clock::Clock;
use serde_json::{Value, json};

use crate::Result;
use crate::limit::TEXT;
use crate::parse;

/// A mailing without progress for this long is stuck.
const STUCK: Duration = Duration::from_secs(60);
/// The pause between two reads of a mailing.
const LOOK: Duration = Duration::from_millis(50);
/// The pause between two reads of the metrics, shorter than a usual scrape interval.
const SCRAPE: Duration = Duration::from_secs(1);

/// The address of the service and an HTTP client to call it.
#[derive(Clone)]
pub struct Api {
    base: String,
    http: reqwest::Client,
}

/// A mailing's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct Counts {
    pub total: u64,
    pub queued: u64,
    pub sending: u64,
    pub sent: u64,
    pub failed: u64,
    pub expired: u64,
    pub cancelled: u64,
}

/// The response of `GET /mailings/{id}/stats`.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct MailingStats {
    pub counts: Counts,
    pub finished_at: Option<String>,
}

impl Api {
    pub fn new(address: &str) -> Result<Self> {
        Ok(Self { base: format!("http://{address}"), http: fanfare::egress::client()? })
    }

    /// Returns the host and port.
    pub fn address(&self) -> &str {
        self.base.strip_prefix("http://").unwrap_or(&self.base)
    }

    pub async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/ready", self.base)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    pub async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        answer(self.http.get(self.url(path))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        answer(self.http.post(self.url(path)).json(body)).await
    }

    /// Imports clients from CSV and checks that each of them is new.
    pub async fn import(&self, csv: reqwest::Body, clients: u64) -> Result {
        let request = self.http.post(self.url("/clients/import")).header("content-type", "text/csv");
        let report: Value = answer(request.body(csv)).await?;
        if report.get("created").and_then(Value::as_u64) != Some(clients) {
            return Err(format!("an import of {clients} clients returned {report}").into());
        }
        Ok(())
    }

    /// Creates a mailing with these fields in addition to its text and end, and returns its id.
    pub async fn mail(&self, fields: Value) -> Result<String> {
        let ends_at = Clock::System.now().plus(Duration::from_hours(12)).to_string();
        let mut body = json!({"text": TEXT, "ends_at": ends_at});
        if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
            body.extend(fields);
        }
        let mailing = self.post("/mailings", &body).await?;
        text_at(&mailing, "id")
    }

    pub async fn stats(&self, mailing: &str) -> Result<MailingStats> {
        self.get(&format!("/mailings/{mailing}/stats")).await
    }

    /// Waits until a mailing's counts satisfy the condition. It reads the metrics meanwhile, as Prometheus does.
    pub async fn wait_until(
        &self,
        mailing: &str,
        look: Duration,
        holds: impl Fn(&MailingStats) -> bool,
    ) -> Result<MailingStats> {
        let mut sent = 0;
        let (mut moved_at, mut scraped_at) = (Instant::now(), Instant::now());
        loop {
            let stats = self.stats(mailing).await?;
            if holds(&stats) {
                return Ok(stats);
            }
            if stats.counts.sent != sent {
                (sent, moved_at) = (stats.counts.sent, Instant::now());
            }
            if moved_at.elapsed() > STUCK {
                return Err(format!("a mailing makes no progress: {:?}", stats.counts).into());
            }
            if scraped_at.elapsed() >= SCRAPE {
                self.http
                    .get(format!("{}/metrics", self.base))
                    .send()
                    .await?
                    .error_for_status()?
                    .bytes()
                    .await?;
                scraped_at = Instant::now();
            }
            tokio::time::sleep(look).await;
        }
    }

    /// Returns the number of messages that this node has sent.
    pub async fn sent(&self) -> Result<f64> {
        let answer = self.http.get(format!("{}/metrics", self.base)).send().await?.error_for_status()?;
        Ok(parse::metric(&answer.text().await?, "fanfare_messages_sent_total"))
    }

    /// Returns the number of events that this node has stored.
    pub async fn events(&self) -> Result<f64> {
        let answer = self.http.get(format!("{}/metrics", self.base)).send().await?.error_for_status()?;
        Ok(parse::metric_with(&answer.text().await?, "fanfare_events_total", r#"result="accepted""#))
    }

    /// Waits until a mailing's counts are final and checks that all messages were sent. Returns the time at which the
    /// mailing finished, in microseconds since the epoch.
    pub async fn finished(&self, mailing: &str, recipients: u64) -> Result<i64> {
        let stats = self.wait_until(mailing, LOOK, |stats| stats.finished_at.is_some()).await?;
        let all_sent = Counts {
            total: recipients,
            sent: recipients,
            queued: 0,
            sending: 0,
            failed: 0,
            expired: 0,
            cancelled: 0,
        };
        if stats.counts != all_sent {
            return Err(format!("not all of {recipients} messages were sent: {:?}", stats.counts).into());
        }
        micros(&stats.finished_at.unwrap_or_default())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }
}

async fn answer<T: serde::de::DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T> {
    let response = request.send().await?;
    let status = response.status();
    let body = response.bytes().await?;
    if !status.is_success() {
        return Err(format!("the service returned {status}: {}", String::from_utf8_lossy(&body)).into());
    }
    Ok(serde_json::from_slice(&body)?)
}

/// Returns a text field of a response.
pub fn text_at(value: &Value, name: &str) -> Result<String> {
    let text = value.get(name).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| format!("the response has no {name}: {value}").into())
}

/// Returns the microseconds since the epoch of a time in the API's format.
fn micros(time: &str) -> Result<i64> {
    Ok(chrono::DateTime::parse_from_rfc3339(time)?.timestamp_micros())
}
