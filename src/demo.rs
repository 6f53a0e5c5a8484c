//! `fanfare demo`: imports generated clients, sends one mailing, shows its progress and compares the final counts.
//!
//! It starts its own service, as a separate process whose memory can be measured, and a sandbox provider, both on free
//! ports. The demo never reaches a real provider, or a database other than the one it was given.

mod books;
mod error;
pub mod generator;
mod service;

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

pub use error::DemoError;

use self::books::DemoResult;
use self::error::Result;
use self::service::Service;
use crate::sandbox::{Faults, Sandbox, SandboxArgs};

/// The interval between two requests for the counts.
const LOOK: Duration = Duration::from_millis(200);

/// The options of the demo.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Number of clients to generate and to send to
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    clients: u64,

    /// Seed of the generator: the same seed generates the same clients
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Database to use instead of a temporary SQLite file, such as postgres://…; the data remains in it
    #[arg(long, value_name = "URL")]
    database: Option<String>,

    /// Length of the mailing's window
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    window: Duration,

    /// The faults of the provider.
    #[command(flatten)]
    faults: Faults,
}

/// Runs the demo; `client` calls the API.
///
/// # Errors
/// If something cannot be started, or the final counts do not agree.
pub async fn run(args: DemoArgs, client: reqwest::Client) -> Result<()> {
    let provider = SandboxArgs { faults: args.faults, ..SandboxArgs::on_free_port() };
    let sandbox = Sandbox::start(provider)?;
    let service = Service::start(args.database.as_deref(), &sandbox.base_url(), client).await?;
    say(&format!(
        "service at {} (Swagger UI at /api/v1/docs), sandbox provider at {}",
        service.base(),
        sandbox.base_url()
    ))?;

    let imported = import(&service, args.clients, args.seed).await?;
    let began = Instant::now();
    let mailing = create(&service, args.window).await?;
    let last = watch(&service, &mailing).await?;
    let took = began.elapsed().as_secs_f64();

    let books = DemoResult::new(&last, &sandbox.stats(), imported.max(args.clients));
    say(&books.table())?;
    let rate = books.final_total() as f64 / took;
    let memory = service.peak_memory().map_or_else(|| "unknown".to_owned(), |mb| format!("{mb:.1} MB"));
    say(&format!("{took:.1} s, {rate:.0} messages a second; peak memory of the service: {memory}"))?;
    service.stop().await?;
    sandbox.stop().await;
    books.check()
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn bar(length: u64, unit: &str) -> ProgressBar {
    let template = format!("{{msg:10}} {{bar:40}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// Streams the generated clients into the import. Returns the number of imported clients.
async fn import(service: &Service, clients: u64, seed: u64) -> Result<u64> {
    let chunks = generator::csv_chunks(clients, seed)?;
    let bar = bar(clients, "clients").with_message("import");
    let moved = bar.clone();
    let body = futures_util::stream::iter(chunks.map(move |chunk| {
        moved.inc(chunk.iter().filter(|byte| **byte == b'\n').count() as u64);
        Ok::<_, std::io::Error>(chunk)
    }));
    let began = Instant::now();
    let report = service.import(reqwest::Body::wrap_stream(body)).await?;
    bar.finish_and_clear();
    let count = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or_default();
    let taken = count("created") + count("updated");
    if taken != clients {
        return Err(DemoError::failed(format!("{taken} of {clients} clients were imported: {report}")));
    }
    let rate = taken as f64 / began.elapsed().as_secs_f64();
    say(&format!("imported {taken} clients in {:.1} s, {rate:.0} a second", began.elapsed().as_secs_f64()))?;
    Ok(taken)
}

async fn create(service: &Service, window: Duration) -> Result<String> {
    let now = DateTime::<Utc>::from(SystemTime::now());
    let end = TimeDelta::from_std(window).ok().and_then(|window| now.checked_add_signed(window));
    let ends_at = end.unwrap_or(DateTime::<Utc>::MAX_UTC).to_rfc3339_opts(SecondsFormat::Micros, true);
    let text = "Dear {{ name }}, our shop in {{ city }} is open again.";
    let mailing = service.post("/mailings", &json!({"text": text, "ends_at": ends_at})).await?;
    let id = mailing.get("id").and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(|| DemoError::failed(format!("the service returned {mailing}")))
}

/// Draws the progress until the mailing is finished. Returns the final counts.
async fn watch(service: &Service, mailing: &str) -> Result<Value> {
    let path = format!("/mailings/{mailing}/stats");
    let mut drawn: Option<ProgressBar> = None;
    loop {
        let stats = service.get(&path).await?;
        let counts = stats.get("counts").cloned().unwrap_or_default();
        let of = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap_or_default();
        let bar = drawn.get_or_insert_with(|| bar(of("total"), "messages").with_message("mailing"));
        bar.set_position(of("total") - of("queued") - of("sending"));
        if stats.get("finished_at").is_some_and(|at| !at.is_null()) {
            bar.finish_and_clear();
            return Ok(counts);
        }
        tokio::time::sleep(LOOK).await;
    }
}
