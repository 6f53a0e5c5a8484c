//! A client of the service's API for tests. The service may run in this process or in another.

use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest wait of a test for the next sign of progress.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two polls of a condition. A poll may be a request to the service, so polling without a pause would
/// slow down the work that the test waits for.
pub const LOOK: Duration = Duration::from_millis(20);

/// Bounds a wait by progress instead of total time, because work on a busy machine may be slow.
pub struct Progress<T> {
    began: Instant,
    changed: Instant,
    seen: Option<T>,
}

impl<T: PartialEq> Progress<T> {
    /// Starts a wait now.
    pub fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, changed: now, seen: None }
    }

    /// Records a poll and returns true if the caller may poll again. Returns false when the value has not changed for
    /// [`PATIENCE`], or when the wait has taken ten times as long.
    pub fn goes_on(&mut self, seen: T) -> bool {
        if self.seen.as_ref() != Some(&seen) {
            (self.seen, self.changed) = (Some(seen), Instant::now());
        }
        self.changed.elapsed() < PATIENCE && self.began.elapsed() < PATIENCE * 10
    }
}

/// The address of the service and an HTTP client to call it.
pub struct Api {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    /// The HTTP client.
    pub http: reqwest::Client,
}

impl Api {
    /// Creates a client of the service at this address.
    pub fn new(base: String) -> Self {
        Self { base, http: fanfare::egress::client().expect("a client") }
    }

    /// Returns the full URL of a path under the API's root.
    pub fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    /// Sends a request and returns the response's status and body (null when it has no body).
    ///
    /// # Errors
    /// When no response arrives.
    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Result<(u16, Value)> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.http.request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") }))
    }

    /// Sends a request and returns the response's status and body (null when it has no body). Panics if none arrives.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.try_call(method, path, body).await.expect("an answer")
    }

    /// Sends a GET and expects 200.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Sends a POST and expects success.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call("POST", path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Imports clients from CSV and returns the report.
    ///
    /// # Errors
    /// When no response arrives, or its status is not a success.
    pub async fn import_csv(&self, csv: impl Into<reqwest::Body>) -> reqwest::Result<Value> {
        let request =
            self.http.post(self.url("/clients/import")).header("content-type", "text/csv").body(csv);
        request.send().await?.error_for_status()?.json().await
    }

    /// Reads a path until the condition holds and returns the last response. Panics when the response has not changed
    /// for a minute.
    pub async fn wait_for(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut progress = Progress::begin();
        loop {
            let seen = self.get(path).await;
            if holds(&seen) {
                return seen;
            }
            assert!(progress.goes_on(seen.clone()), "no progress; last seen: {seen}");
            tokio::time::sleep(LOOK).await;
        }
    }
}
