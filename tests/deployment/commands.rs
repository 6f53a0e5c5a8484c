//! The commands that containers and scripts run: their output and their exit status.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fanfare::config::{FILE_VARIABLE, variables};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::deployment::path;
use crate::support::listener::Listener;

const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A program in its own folder, with only these settings.
fn command(program: &Path, dir: &Path, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    for variable in variables() {
        command.env_remove(variable);
    }
    command.env_remove(FILE_VARIABLE).envs(env.iter().copied()).current_dir(dir).stdin(Stdio::null());
    command
}

fn run(dir: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
    command(Path::new(BINARY), dir, env).args(args).output().expect("the binary")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn port_of(base: &str) -> String {
    base.rsplit(':').next().expect("a port").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_needs_nothing_but_its_address_and_finds_the_configured_port() {
    let dir = TempDir::new().unwrap();
    let alive = Listener::start(|arrival, _| if arrival.path == "/health" { 200_u16 } else { 404 }).unwrap();
    let (port, url) = (port_of(&alive.base), format!("{}/health", alive.base));
    // as in a container whose other settings are wrong or missing: the service reports them itself
    let broken =
        [("HTTP_HOST", "0.0.0.0"), ("DATABASE_URL", "nonsense"), ("SMS_WORKERS", "many"), ("LOG_LEVEL", "[")];
    let file = dir.path().join("other.toml");
    std::fs::write(&file, format!("[http]\nport = {port}\n[sms]\nconcurrency = \"many\"\n")).unwrap();
    let file = file.to_str().unwrap();
    for (env, args, expected) in [
        (vec![("HTTP_PORT", port.as_str())], vec!["health"], true),
        (vec![("HTTP_PORT", "1")], vec!["health"], false),
        (vec![("HTTP_PORT", "0")], vec!["health"], false),
        (vec![("HTTP_PORT", "many")], vec!["health"], false),
        (vec![], vec!["health", "--url", &url], true),
        (vec![(FILE_VARIABLE, "/nowhere.toml")], vec!["health", "--url", &url], true),
        (vec![(FILE_VARIABLE, "/nowhere.toml")], vec!["health"], false),
        (vec![(FILE_VARIABLE, file)], vec!["health"], true),
        (vec![], vec!["--config", file, "health"], true),
        (vec![], vec!["health", "--url", &format!("{}/other", alive.base)], false),
    ] {
        let all: Vec<(&str, &str)> = broken.iter().copied().chain(env.iter().copied()).collect();
        let output = run(dir.path(), &all, &args);
        assert_eq!(output.status.code(), Some(i32::from(!expected)), "{env:?} {args:?}: {}", said(&output));
        assert_eq!(said(&output).is_empty(), expected, "{env:?} {args:?}: {}", said(&output));
    }
}

/// The starter set without the routes whose channels have no provider.
#[test]
fn routes_that_cannot_go_out_are_left_out_and_named_unless_all_are_asked_for() {
    let dir = TempDir::new().unwrap();
    let file = path("db/routes/starter.toml");
    let file = file.to_str().unwrap();
    let url = format!("sqlite://{}", dir.path().join("routes.db").display());
    let real =
        [("DATABASE_URL", url.as_str()), ("PROVIDER_BASE_URL", "http://127.0.0.1:1"), ("LOG_LEVEL", "warn")];
    let strict = run(dir.path(), &real, &["routes", "load", file, "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(said(&strict).contains("deliveries[0].channel"), "{}", said(&strict));

    let loaded = run(dir.path(), &real, &["routes", "load", file]);
    assert!(loaded.status.success(), "{}", said(&loaded));
    let left_out = said(&loaded);
    for (needed, event) in
        [("EMAIL_PROVIDER_URL", "user.registered"), ("WEBHOOK_PROVIDER_URL", "order.completed")]
    {
        let line = left_out
            .lines()
            .find(|line| line.contains(needed))
            .unwrap_or_else(|| panic!("{needed}: {left_out}"));
        assert!(line.contains("skipped") && line.contains(event), "{line}");
    }
    let counts = String::from_utf8_lossy(&loaded.stdout).into_owned();
    assert!(counts.lines().nth(1).is_some_and(|line| line.starts_with("routes: 0 created")), "{counts}");

    // once their channels have a provider, the same command adds the routes
    let with_all = [("DATABASE_URL", url.as_str()), ("LOG_LEVEL", "warn")];
    let later = run(dir.path(), &with_all, &["routes", "load", file]);
    assert!(later.status.success() && said(&later).is_empty(), "{}", said(&later));
    let counts = String::from_utf8_lossy(&later.stdout).into_owned();
    assert!(counts.contains(", 0 skipped") && !counts.contains("routes: 0 created"), "{counts}");
}

/// A process that ends when the value is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // it fails if the process has already ended
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a port that was free a moment ago.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Runs `scripts/run` as `make run` does, with the caller's provider.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_beside_a_real_provider_although_some_routes_cannot_go_out() {
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let url = format!("sqlite://{}", dir.path().join("run.db").display());
    let env = [
        ("HTTP_PORT", port.as_str()),
        ("DATABASE_URL", url.as_str()),
        ("PROVIDER_BASE_URL", "http://127.0.0.1:1"),
        ("LOG_LEVEL", "warn"),
    ];
    let log = dir.path().join("log");
    let child = command(&path("scripts/run"), dir.path(), &env)
        .arg(BINARY)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let log = || std::fs::read_to_string(&log).unwrap();
    let channels = format!("http://127.0.0.1:{port}/api/v1/channels");
    let http = fanfare::egress::client().unwrap();
    let began = Instant::now();
    let answer = loop {
        if let Ok(answer) = http.get(&channels).send().await {
            break answer.json::<Value>().await.unwrap();
        }
        let ended = running.0.try_wait().unwrap();
        assert!(ended.is_none() && began.elapsed() < PATIENCE, "{ended:?}: {}", log());
        tokio::time::sleep(LOOK).await;
    };
    assert_eq!(answer["items"][0]["via"], json!("gateway"), "{answer}");
    assert!(log().contains("skipped"), "{}", log());
    let asked = Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().unwrap();
    assert!(asked.success());
    let ended = loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "it does not end: {}", log());
        tokio::time::sleep(LOOK).await;
    };
    assert_eq!(ended.code(), Some(0), "as the service: {}", log());
}
