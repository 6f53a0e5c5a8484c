//! The demo's own service: this binary in a separate process, and the requests to it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::error::{DemoError, Result};

/// The most time for the service to become ready, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Service {
    process: Child,
    base: String,
    client: reqwest::Client,
    /// The folder of the temporary database, which is removed at the end.
    dir: Option<std::path::PathBuf>,
}

impl Drop for Service {
    fn drop(&mut self) {
        // after a clean stop it has already ended; in any other case it must not keep running
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(dir) = &self.dir {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

impl Service {
    pub(super) async fn start(
        database: Option<&str>,
        provider: &str,
        client: reqwest::Client,
    ) -> Result<Self> {
        let (url, dir) = match database {
            Some(url) => (url.to_owned(), None),
            None => {
                let dir = std::env::temp_dir().join(format!("fanfare-demo-{}", uuid::Uuid::now_v7()));
                std::fs::create_dir(&dir)?;
                (format!("sqlite://{}", dir.join("fanfare.db").display()), Some(dir))
            }
        };
        // the port stays free only for a moment, which is long enough
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr())?.port();
        let process = Command::new(std::env::current_exe()?)
            .arg("serve")
            .env("HTTP_HOST", "127.0.0.1")
            .env("HTTP_PORT", port.to_string())
            .env("DATABASE_URL", url)
            .env("PROVIDER_BASE_URL", provider)
            .env("RATE_LIMIT_PER_CHANNEL", "0")
            .env("LOG_LEVEL", "warn")
            .env_remove("API_KEY")
            .env_remove("API_KEY_FILE")
            .env_remove("PROVIDER_TOKEN")
            .stdin(Stdio::null())
            .spawn()?;
        let mut service = Self { process, base: format!("http://127.0.0.1:{port}"), client, dir };
        service.wait_until_ready().await?;
        Ok(service)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < deadline {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(DemoError::failed(format!(
                    "the service stopped while starting ({status}); see above"
                )));
            }
            let answer = self.client.get(format!("{}/ready", self.base)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(DemoError::failed("the service was not ready in time"))
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.answer(self.client.get(self.url(path))).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.answer(self.client.post(self.url(path)).json(body)).await
    }

    pub(super) async fn import(&self, csv: reqwest::Body) -> Result<Value> {
        self.answer(
            self.client.post(self.url("/clients/import")).header("content-type", "text/csv").body(csv),
        )
        .await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let response = request.send().await?;
        let status = response.status();
        let body: Value = response.json().await?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(DemoError::failed(format!("the service returned {status}: {body}")))
        }
    }

    /// The peak memory of the process in megabytes, as Linux reports it.
    pub(super) fn peak_memory(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes / 1000.0)
    }

    /// Stops the process with SIGTERM, and waits for its end.
    pub(super) async fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").arg(self.process.id().to_string()).status()?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while asked.success() && tokio::time::Instant::now() < deadline {
            match self.process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(DemoError::failed(format!("the service stopped with {status}"))),
                None => tokio::time::sleep(LOOK).await,
            }
        }
        Err(DemoError::failed("the service did not stop in time"))
    }
}
