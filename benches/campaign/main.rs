//! Measures Fanfare on SQLite and on PostgreSQL, against a loop that sends the same requests without a database and
//! engine. `make bench` runs it; docs/benchmarks.md describes the measurements and how to read them.

mod answers;
mod api;
mod args;
mod brokers;
mod creations;
mod database;
mod events;
mod imports;
mod ingest;
mod kafka;
mod limit;
#[path = "../../tests/support/listener.rs"]
mod listener;
mod load;
mod machine;
mod mailings;
mod nats;
mod notifications;
mod parse;
mod phones;
mod process;
mod rates;
mod recovery;
mod report;
mod requests;
mod schedules;
mod sources;
mod spent;
mod spike;
mod statistics;
mod strangers;
mod table;
mod uploads;
mod wire;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::ProgressBar;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Args, Kind, Part};
use crate::database::{Database, Server};
use crate::machine::Cpu;
use crate::report::Report;

/// The error of a failed benchmark, printed for the person at the terminal.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result type of all modules.
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// The context of every part.
pub struct Bench {
    /// The command-line flags.
    pub args: Args,
    /// Reads the CPU usage of processes.
    pub cpu: Cpu,
    server: Option<Server>,
    templates: BTreeMap<(Kind, u64), Database>,
    /// The temporary directory. It follows the databases, so that it is dropped after them.
    directory: TempDir,
    progress: ProgressBar,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        // `cargo test --all-targets` also starts the benchmark
        return ExitCode::SUCCESS;
    }
    let ran = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::from);
    match ran.and_then(|runtime| runtime.block_on(run_until_stopped(args))) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // writing to a closed terminal fails, and the error has no other place
            let _ = writeln!(std::io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the benchmark until it ends or a signal arrives, and returns the exit code. Dropping the future ends every
/// process that it started.
async fn run_until_stopped(args: Args) -> Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        ran = run(args) => ran.map(|()| 0),
        _ = interrupt.recv() => Ok(130),
        _ = terminate.recv() => Ok(143),
        _ = hangup.recv() => Ok(129),
    }
}

async fn run(args: Args) -> Result {
    let json = args.json.clone().unwrap_or_else(default_json);
    // before the measurement, so that a missing directory is reported at once
    std::fs::write(&json, "").map_err(|error| format!("the file of --json cannot be written: {error}"))?;
    let report = Bench::start(args).await?.measure().await?;
    std::fs::write(&json, format!("{:#}\n", report.json()))?;
    Ok(std::io::stdout().write_all(report.text().as_bytes())?)
}

/// Returns the path of `bench.json` in cargo's target directory.
fn default_json() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench.json")
}

impl Bench {
    /// Connects to the server and creates the template databases.
    async fn start(args: Args) -> Result<Self> {
        let wants_server = args.databases().contains(&Kind::Postgres);
        let server = if wants_server { Some(Server::new()?) } else { None };
        let progress = ProgressBar::new_spinner();
        progress.enable_steady_tick(Duration::from_secs(1));
        let mut bench = Self {
            cpu: Cpu::new()?,
            server,
            templates: BTreeMap::new(),
            directory: tempfile::Builder::new().prefix("fanfare-bench.").tempdir()?,
            progress,
            args,
        };
        for kind in bench.args.databases() {
            for clients in bench.args.imported() {
                bench.says(&format!("importing {clients} clients, {}", kind.name()));
                let made =
                    Database::with_clients(kind, bench.directory(), bench.server.as_ref(), clients).await?;
                bench.templates.insert((kind, clients), made);
            }
        }
        Ok(bench)
    }

    async fn measure(self) -> Result<Report> {
        let server = self.server.as_ref().map(|server| server.version.as_str());
        let machine = machine::facts(self.directory(), server, &database::sqlite_version()?)?;
        let mut report = Report {
            args: self.args.clone(),
            machine,
            mailings: BTreeMap::new(),
            answers: BTreeMap::new(),
            recovery: BTreeMap::new(),
            ingest: BTreeMap::new(),
            imports: BTreeMap::new(),
            phones: BTreeMap::new(),
            rates: BTreeMap::new(),
            creations: BTreeMap::new(),
            spikes: BTreeMap::new(),
            events: BTreeMap::new(),
            sources: BTreeMap::new(),
            schedules: BTreeMap::new(),
            strangers: BTreeMap::new(),
        };
        let asked = |part| self.args.wants(part);
        if asked(Part::Mailings) {
            report.mailings = mailings::measure(&self).await?;
        }
        let (largest, middle) = (self.args.largest(), self.args.middle());
        for round in 1..=self.args.rounds.get() {
            if asked(Part::Imports) {
                phones::measure(&mut report.phones)?;
            }
            for kind in self.args.databases() {
                let says = |what| self.says(&format!("round {round}: {what}, {}", kind.name()));
                if asked(Part::Answers) {
                    says("answers while it sends");
                    let answers = report.answers.entry(kind).or_default();
                    answers::measure(&self, self.template(kind, largest)?, largest, answers).await?;
                }
                if asked(Part::Recovery) {
                    says("kill -9");
                    let recovery = report.recovery.entry(kind).or_default();
                    recovery::measure(&self, self.template(kind, middle)?, middle, recovery).await?;
                }
                if asked(Part::Ingest) {
                    says("clients coming in");
                    ingest::measure(&self, kind, middle, report.ingest.entry(kind).or_default()).await?;
                }
                if asked(Part::Imports) {
                    says("a file of clients");
                    imports::measure(&self, kind, round, &mut report.imports).await?;
                }
                if asked(Part::Notifications) {
                    says("notifications coming in");
                    notifications::measure(&self, kind, round, &mut report.creations).await?;
                }
                if asked(Part::Spike) {
                    says("a spike of notifications");
                    let spike = report.spikes.entry(kind).or_default();
                    spike::measure(&self, self.template(kind, middle)?, middle, spike).await?;
                }
                if asked(Part::Events) {
                    says("a spike of events");
                    events::measure(&self, kind, report.events.entry(kind).or_default()).await?;
                }
                if asked(Part::Brokers) {
                    brokers::measure(&self, kind, round, &mut report.sources).await?;
                }
                if asked(Part::Requests) {
                    says("scheduled requests");
                    requests::measure(&self, kind, round, &mut report.schedules).await?;
                }
                if asked(Part::Strangers) {
                    says("slow connections");
                    strangers::measure(&self, kind, &mut report.strangers).await?;
                }
            }
        }
        if asked(Part::Rates) {
            for kind in self.args.databases() {
                report.rates.extend(rates::measure(&self, kind).await?);
            }
        }
        self.progress.finish_and_clear();
        Ok(report)
    }

    /// Returns the directory for the files of the measurement.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the template database with this number of clients.
    pub fn template(&self, kind: Kind, clients: u64) -> Result<&Database> {
        self.templates.get(&(kind, clients)).ok_or_else(|| "no database of this size was imported".into())
    }

    /// Creates a database without clients.
    pub fn empty_database(&self, kind: Kind) -> Result<Database> {
        Database::empty(kind, self.directory(), self.server.as_ref())
    }

    /// Shows the present step in the progress indicator.
    pub fn says(&self, what: &str) {
        self.progress.set_message(what.to_owned());
    }
}
