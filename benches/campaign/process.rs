//! The sandbox and the service as separate processes, which end when their values are dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanfare::sandbox::Stats;

use crate::Result;
use crate::api::Api;
use crate::args::Provider;
use crate::parse;

/// The measured program.
pub const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");
/// The longest time that a process may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two polls.
const LOOK: Duration = Duration::from_millis(5);
/// A rate limit that is enabled but never reached, so that the figures include the rate limiter's work but no waiting.
const UNREACHED: u32 = 1_000_000;

pub struct Process {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Process {
    /// Starts a command of the program, without the caller's settings.
    fn spawn(directory: &Path, name: &'static str, args: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        Self::spawn_program(directory, BINARY.as_ref(), name, args, env)
    }

    /// Starts another program. Its log is its standard error.
    pub fn spawn_program(
        directory: &Path,
        binary: &Path,
        name: &'static str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let start = |program: &Path, before: &[&OsStr]| {
            let mut command = Command::new(program);
            for variable in fanfare::config::variables() {
                command.env_remove(variable);
            }
            command.args(before).args(args).envs(env.iter().copied()).env("LOG_FORMAT", "json");
            command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null());
            // in its own process group, so that ctrl-C reaches only the benchmark, which ends its processes
            command.stderr(File::create(&log)?).process_group(0).spawn()
        };
        // if the benchmark is killed with -9, the kernel ends its processes
        let bound = ["--pdeathsig", "KILL", "--"].map(OsStr::new);
        let child = match start("setpriv".as_ref(), &[bound.as_slice(), &[binary.as_os_str()]].concat()) {
            Err(error) if error.kind() == ErrorKind::NotFound => start(binary, &[]),
            child => child,
        }?;
        Ok(Self { child, name, log })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub fn kill(&mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM, waits for the end of the process, and checks its exit status.
    async fn stop(mut self) -> Result {
        let asked = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        let began = Instant::now();
        while asked.success() && began.elapsed() < PATIENCE {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.complaint(&format!("ended with {status}"))),
                None => tokio::time::sleep(LOOK).await,
            }
        }
        Err(self.complaint("did not stop in time"))
    }

    /// Polls until `look` returns a value.
    pub async fn wait_for<T>(&mut self, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> Result<T> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(seen) = look(self).await {
                return Ok(seen);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(self.complaint(&format!("ended during its start with {status}")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(self.complaint("was not ready in time"))
    }

    /// Returns the log.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn complaint(&self, what: &str) -> crate::Failure {
        let said = self.said();
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        format!("the {} {what}; its log ends with:\n{}", self.name, last.join("\n")).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // this fails if the process has already exited
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `fanfare sandbox` on a free port.
pub struct Sandbox {
    pub process: Process,
    pub base: String,
    http: reqwest::Client,
    receipts: PathBuf,
}

impl Sandbox {
    pub async fn start(directory: &Path, provider: Provider) -> Result<Self> {
        Self::start_with(directory, provider, false).await
    }

    /// Starts a sandbox that logs every request to a file, which costs it a microsecond or two each.
    pub async fn start_logging(directory: &Path, provider: Provider) -> Result<Self> {
        Self::start_with(directory, provider, true).await
    }

    async fn start_with(directory: &Path, provider: Provider, logging: bool) -> Result<Self> {
        let receipts = directory.join("receipts.jsonl");
        let address = directory.join("sandbox.address");
        for stale in [&receipts, &address] {
            match std::fs::remove_file(stale) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let latency = format!("{}us", provider.delay.as_micros());
        let mut args = vec!["sandbox", "--listen", "127.0.0.1:0", "--latency", &latency];
        args.extend(["--port-file", "sandbox.address"]);
        if logging {
            args.extend(["--log", "receipts.jsonl"]);
        }
        let mut process = Process::spawn(directory, "sandbox", &args, &[])?;
        let address = process.wait_for(async |_| std::fs::read_to_string(&address).ok()).await?;
        let base = format!("http://{}", address.trim());
        Ok(Self { process, base, http: fanfare::egress::client()?, receipts })
    }

    pub async fn stats(&self) -> Result<Stats> {
        Ok(self.http.get(format!("{}/stats", self.base)).send().await?.error_for_status()?.json().await?)
    }

    /// Waits until nothing has arrived for this long, and returns the statistics of that moment.
    pub async fn quiet(&self, silence: Duration) -> Result<Stats> {
        let mut seen = self.stats().await?;
        let mut since = Instant::now();
        while since.elapsed() < silence {
            tokio::time::sleep(LOOK).await;
            let now = self.stats().await?;
            if now.requests != seen.requests {
                (seen, since) = (now, Instant::now());
            }
        }
        Ok(seen)
    }

    /// Returns all logged requests in the order of arrival.
    pub fn receipts(&self) -> Result<Vec<parse::Receipt>> {
        let text = std::fs::read_to_string(&self.receipts)?;
        Ok(text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?)
    }
}

/// `fanfare serve` on a free port.
pub struct Service {
    pub process: Process,
    pub api: Api,
}

impl Service {
    /// Starts the service and waits until it is ready. All settings that are not named here have their defaults.
    pub async fn start(
        directory: &Path,
        database: &str,
        provider_url: &str,
        in_flight: usize,
    ) -> Result<Self> {
        Self::start_at_rate(directory, database, provider_url, in_flight, UNREACHED).await
    }

    /// Starts the service with this rate limit of the channel in messages a second.
    pub async fn start_at_rate(
        directory: &Path,
        database: &str,
        provider_url: &str,
        in_flight: usize,
        rate: u32,
    ) -> Result<Self> {
        let (in_flight, rate) = (in_flight.to_string(), rate.to_string());
        let env = [("SMS_WORKERS", in_flight.as_str()), ("RATE_LIMIT_PER_CHANNEL", rate.as_str())];
        Self::start_with(directory, database, provider_url, &env).await
    }

    /// Starts the service with these settings over the defaults.
    pub async fn start_with(
        directory: &Path,
        database: &str,
        provider_url: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_as(directory, BINARY.as_ref(), database, provider_url, settings).await
    }

    /// Starts another binary of the program.
    pub async fn start_binary(
        directory: &Path,
        binary: &Path,
        database: &str,
        provider_url: &str,
    ) -> Result<Self> {
        Self::start_as(directory, binary, database, provider_url, &[]).await
    }

    async fn start_as(
        directory: &Path,
        binary: &Path,
        database: &str,
        provider_url: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let mut env =
            vec![("HTTP_PORT", "0"), ("DATABASE_URL", database), ("PROVIDER_BASE_URL", provider_url)];
        env.extend(settings);
        let mut process = Process::spawn_program(directory, binary, "service", &["serve"], &env)?;
        let address = process.wait_for(async |process| parse::listens_on(&process.said())).await?;
        let api = Api::new(&address)?;
        process.wait_for(async |_| api.is_ready().await.then_some(())).await?;
        Ok(Self { process, api })
    }

    pub async fn stop(self) -> Result {
        self.process.stop().await
    }
}
