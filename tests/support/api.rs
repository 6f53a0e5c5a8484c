//! The service's API as tests call it, whichever process it runs in.

use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything that a test waits for takes to make a step.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks at a condition that is waited for. It keeps the looks from taking the time of what is waited
/// for: each may be a request to the service.
pub const LOOK: Duration = Duration::from_millis(20);

/// Bounds a wait by what is seen: on a busy machine a thing may take long as long as it goes on.
pub struct Progress<T> {
    began: Instant,
    changed: Instant,
    seen: Option<T>,
}

impl<T: PartialEq> Progress<T> {
    /// Begins a wait now.
    pub fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, changed: now, seen: None }
    }

    /// Notes a look; returns whether to look again: nothing may stay as it is for [`PATIENCE`], nor go on for ten times
    /// as long.
    pub fn goes_on(&mut self, seen: T) -> bool {
        if self.seen.as_ref() != Some(&seen) {
            (self.seen, self.changed) = (Some(seen), Instant::now());
        }
        self.changed.elapsed() < PATIENCE && self.began.elapsed() < PATIENCE * 10
    }
}

/// Where the service listens, and a client to call it.
pub struct Api {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    /// A client.
    pub http: reqwest::Client,
}

impl Api {
    /// At this address.
    pub fn new(base: String) -> Self {
        Self { base, http: fanfare::egress::client().expect("a client") }
    }

    /// The whole URL of a path under the API's root.
    pub fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    /// Sends a request; answers its status and its body (null when there is none).
    ///
    /// # Errors
    /// When no answer comes.
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

    /// Sends a request that is answered; answers its status and its body (null when there is none).
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.try_call(method, path, body).await.expect("an answer")
    }

    /// GET, expecting 200.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// POST, expecting success.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call("POST", path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Imports clients from CSV; answers the report.
    ///
    /// # Errors
    /// When no answer comes, or one that is no success.
    pub async fn import_csv(&self, csv: impl Into<reqwest::Body>) -> reqwest::Result<Value> {
        let request =
            self.http.post(self.url("/clients/import")).header("content-type", "text/csv").body(csv);
        request.send().await?.error_for_status()?.json().await
    }

    /// Reads a path until the condition holds; answers what it read. Panics with the last look when nothing has changed for
    /// a minute.
    pub async fn wait_for(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut progress = Progress::begin();
        loop {
            let seen = self.get(path).await;
            if holds(&seen) {
                return seen;
            }
            assert!(progress.goes_on(seen.clone()), "nothing changes; last seen: {seen}");
            tokio::time::sleep(LOOK).await;
        }
    }
}
