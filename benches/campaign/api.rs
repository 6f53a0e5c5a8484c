//! The service's API, as far as the benchmark calls it.

use std::time::{Duration, Instant};

use fanfare::clock::Clock;
use serde_json::{Value, json};

use crate::Result;
use crate::limit::TEXT;
use crate::parse;

/// A mailing that does not move for so long is stuck.
const STUCK: Duration = Duration::from_secs(60);
/// Between two looks at a mailing.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at the metrics: more often than any Prometheus.
const SCRAPE: Duration = Duration::from_secs(1);

/// Where it listens, and a client to call it.
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

/// `GET /mailings/{id}/stats`.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct MailingStats {
    pub counts: Counts,
    pub finished_at: Option<String>,
}

impl Api {
    pub fn new(address: &str) -> Result<Self> {
        Ok(Self { base: format!("http://{address}"), http: fanfare::egress::client()? })
    }

    /// Host and port.
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

    /// Imports clients from CSV, and sees to it that each of them is new.
    pub async fn import(&self, csv: reqwest::Body, clients: u64) -> Result {
        let request = self.http.post(self.url("/clients/import")).header("content-type", "text/csv");
        let report: Value = answer(request.body(csv)).await?;
        if report.get("created").and_then(Value::as_u64) != Some(clients) {
            return Err(format!("an import of {clients} clients was answered {report}").into());
        }
        Ok(())
    }

    /// Creates a mailing with these fields beside its text and end; answers its id.
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

    /// Waits until a mailing's counts are such, reading the metrics meanwhile as Prometheus does.
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
                return Err(format!("a mailing does not move: {:?}", stats.counts).into());
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

    /// Messages that this node has sent.
    pub async fn sent(&self) -> Result<f64> {
        let answer = self.http.get(format!("{}/metrics", self.base)).send().await?.error_for_status()?;
        Ok(parse::metric(&answer.text().await?, "fanfare_messages_sent_total"))
    }

    /// Events that this node has stored.
    pub async fn events(&self) -> Result<f64> {
        let answer = self.http.get(format!("{}/metrics", self.base)).send().await?.error_for_status()?;
        Ok(parse::metric_with(&answer.text().await?, "fanfare_events_total", r#"result="accepted""#))
    }

    /// Waits until a mailing's books are closed, and sees to it that all of its recipients were sent to; answers when
    /// that was, in microseconds since the epoch.
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
            return Err(format!("of {recipients} messages not all were sent: {:?}", stats.counts).into());
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
        return Err(format!("the service answered {status}: {}", String::from_utf8_lossy(&body)).into());
    }
    Ok(serde_json::from_slice(&body)?)
}

/// A text in an answer.
pub fn text_at(value: &Value, name: &str) -> Result<String> {
    let text = value.get(name).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| format!("the answer has no {name}: {value}").into())
}

/// The microseconds since the epoch of a time as the API writes it.
fn micros(time: &str) -> Result<i64> {
    Ok(chrono::DateTime::parse_from_rfc3339(time)?.timestamp_micros())
}
