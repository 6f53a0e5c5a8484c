//! Runs the real binary as a separate process, for tests that kill it.
//!
//! The binary's path is only known to test targets: pass `env!("CARGO_BIN_EXE_fanfare")`.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::io::Read as _;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::support::api::{Api, LOOK, PATIENCE, Progress};
use crate::support::checker::{Request, read_requests};

/// The parameters of a process.
pub struct Launch<'a> {
    /// The path of the binary: `env!("CARGO_BIN_EXE_fanfare")`.
    pub binary: &'a str,
    /// The working directory, where the log is also written. It must not contain a `fanfare.toml`.
    pub dir: &'a Path,
    /// The name of the log file without its suffix. An existing log with this name is replaced.
    pub name: &'a str,
    /// The settings. The process does not inherit the caller's environment.
    pub env: &'a [(&'a str, &'a str)],
    /// The resource limit.
    pub limit: Limit,
}

/// A resource limit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Only the limits of the machine.
    None,
    /// No file may grow beyond this many KiB. Writes past it fail as on a full disk, but with another error code.
    FileKib(u64),
    /// The maximum number of open descriptors. The process cannot raise it.
    Descriptors(u64),
}

/// A process that is killed when the value is dropped, also during a panic.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command of the binary.
    pub fn spawn(launch: &Launch<'_>, args: &[&str]) -> Self {
        let log = launch.dir.join(format!("{}.log", launch.name));
        let limited = |limits: String| {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{limits}; exec \"$0\" \"$@\""), launch.binary]);
            shell
        };
        let mut command = match launch.limit {
            Limit::None => Command::new(launch.binary),
            // The limit counts 512-byte blocks. Only the soft limit is set, so that it can be lifted. XFSZ is ignored,
            // so that writes fail with EFBIG.
            Limit::FileKib(limit) => limited(format!("trap '' XFSZ; ulimit -S -f {}", limit * 2)),
            Limit::Descriptors(limit) => limited(format!("ulimit -n {limit}")),
        };
        for variable in fanfare::config::variables() {
            command.env_remove(variable);
        }
        let child = command
            .args(args)
            .envs(launch.env.iter().copied())
            .env("LOG_FORMAT", "json")
            .current_dir(launch.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file for the log"))
            .spawn()
            .expect("the binary");
        Self { child, log }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its output on standard error.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).expect("the log")).into_owned()
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("its end");
    }

    /// Sends SIGTERM. [`Process::ended`] waits for the end.
    pub fn terminate(&self) {
        self.run("kill", &["-TERM", &self.pid().to_string()]);
    }

    /// Sends SIGSTOP: the process is suspended until [`Process::thaw`].
    pub fn freeze(&self) {
        self.run("kill", &["-STOP", &self.pid().to_string()]);
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        self.run("kill", &["-CONT", &self.pid().to_string()]);
    }

    /// Removes the limit of [`Limit::FileKib`] from the running process.
    pub fn lift_file_limit(&self) {
        self.run("prlimit", &["--pid", &self.pid().to_string(), "--fsize=unlimited:unlimited"]);
    }

    fn run(&self, command: &str, args: &[&str]) {
        let status = Command::new(command).args(args).status();
        assert!(
            status.as_ref().is_ok_and(ExitStatus::success),
            "{command} {args:?}: {status:?}; {}",
            self.log()
        );
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the process does not end: {}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the log satisfies the condition.
    pub async fn said(&mut self, enough: impl Fn(&str) -> bool) {
        let began = Instant::now();
        while !enough(&self.log()) {
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "{ended:?}: {}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for the log line with the listening address and returns the address.
    async fn address(&mut self, message: &str) -> String {
        let began = Instant::now();
        loop {
            let said = self.log();
            let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = lines.find(|line| line["message"] == message) {
                let address = line.get("address").or(line.get("addr")).and_then(Value::as_str);
                return format!("http://{}", address.expect("an address"));
            }
            let ended = self.child.try_wait().expect("its state");
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "the process does not listen ({ended:?}): {}",
                self.log()
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // this fails if the process has already exited
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `fanfare serve` on a free port.
pub struct Server {
    /// The process.
    pub process: Process,
    api: Api,
}

impl Deref for Server {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Server {
    /// Starts the service and waits until it is ready.
    pub async fn start(launch: &Launch<'_>) -> Self {
        let mut env = vec![("HTTP_PORT", "0")];
        env.extend(launch.env);
        let mut process = Process::spawn(&Launch { env: &env, ..*launch }, &["serve"]);
        let base = process.address("fanfare listens").await;
        let server = Self { process, api: Api::new(base) };
        let began = Instant::now();
        let ready = format!("{}/ready", server.base);
        while !server.http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(began.elapsed() < PATIENCE, "the service is not ready: {}", server.process.log());
            tokio::time::sleep(LOOK).await;
        }
        server
    }

    /// Returns a metric's value, summed over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let answer = self.http.get(format!("{}/metrics", self.base)).send().await.expect("an answer");
        let text = answer.text().await.expect("metrics");
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let of_it = lines.filter(|(series, _)| series.split('{').next() == Some(name));
        of_it.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
    }
}

/// `fanfare sandbox` on a free port, which logs the requests that it receives. It outlives the kills of the service.
pub struct Provider {
    /// The process.
    pub process: Process,
    /// The value for `PROVIDER_BASE_URL`.
    pub base: String,
    requests: PathBuf,
}

impl Provider {
    /// Starts the provider with these faults, for example `["--error-rate", "0.2"]`.
    pub async fn start(binary: &str, dir: &Path, faults: &[&str]) -> Self {
        let requests = dir.join("requests.jsonl");
        let path = requests.display().to_string();
        let mut args = vec!["sandbox", "--listen", "127.0.0.1:0", "--log", path.as_str()];
        args.extend(faults);
        let launch = Launch { binary, dir, name: "sandbox", env: &[], limit: Limit::None };
        let mut process = Process::spawn(&launch, &args);
        let base = process.address("sandbox provider started").await;
        Self { process, base, requests }
    }

    /// Waits until the provider has received `count` requests. `look` is called at every poll.
    pub async fn received(&self, count: usize, mut look: impl AsyncFnMut()) {
        let mut log = Lines { file: File::open(&self.requests).expect("the provider's log"), count: 0 };
        let mut progress = Progress::begin();
        while log.read() < count {
            assert!(progress.goes_on(log.count), "only {} of {count} requests", log.count);
            look().await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns all requests received so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        read_requests(&self.requests)
    }
}

/// Counts the lines of a growing file. Each line is read only once, because reading a long log again at every poll
/// would slow down a busy test.
struct Lines {
    file: File,
    count: usize,
}

impl Lines {
    /// Returns the number of lines so far.
    fn read(&mut self) -> usize {
        let mut more = Vec::new();
        self.file.read_to_end(&mut more).expect("the rest of a file");
        self.count += more.iter().filter(|byte| **byte == b'\n').count();
        self.count
    }
}
