//! Checks a finished mailing against the log of its provider.
//!
//! ```text
//! fanfare sandbox --log requests.jsonl      # and the service, killed and restarted as often as you like
//! cargo run --example check_books -- --database sqlite://fanfare.db --log requests.jsonl --killed 1763710000000000
//! ```
#![expect(clippy::expect_used, reason = "the code shared with the tests fails by panicking")]

#[path = "../tests/support/checker.rs"]
mod checker;
#[path = "../tests/support/evidence.rs"]
mod evidence;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use diesel::prelude::*;
use fanfare::db::schema::mailing;
use fanfare::db::types::MailingId;
use fanfare::error::Result;

use checker::{Interruption, Limits, check, read_requests};

/// Lists the rules of the delivery contract that a mailing breaks, and exits with 1 if it breaks any.
#[derive(Parser)]
struct Args {
    /// `sqlite://PATH` or `postgres://…`
    #[arg(long)]
    database: String,
    /// Log of `fanfare sandbox --log`, with the requests of only this mailing
    #[arg(long)]
    log: PathBuf,
    /// Mailing to check; by default the last one
    #[arg(long)]
    mailing: Option<MailingId>,
    /// Time at which the service was killed, in microseconds since the epoch; repeat the flag for each kill
    #[arg(long)]
    killed: Vec<i64>,
    /// `SMS_WORKERS`
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// `DELIVERY_RECORD_BATCH`
    #[arg(long, default_value_t = 500)]
    record_batch: usize,
    /// Delays from each failed attempt to the next
    #[arg(long, value_delimiter = ',', default_value = "1s,2s,4s", value_parser = humantime::parse_duration)]
    delays: Vec<Duration>,
    /// `RATE_LIMIT_PER_CHANNEL`; by default unlimited
    #[arg(long)]
    rate: Option<f64>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let limits = Limits {
        at_stake: Limits::at_stake(args.concurrency, args.record_batch),
        delays: args.delays,
        rate: args.rate,
    };
    let requests = read_requests(&args.log);
    let interruptions = args.killed.into_iter().map(Interruption::Lost).collect();
    let db = evidence::open(&args.database).await?;
    let evidence = db.read(move |c| {
        let id = match args.mailing {
            Some(id) => id,
            None => mailing::table.select(mailing::id).order(mailing::id.desc()).first(c)?,
        };
        evidence::read(c, id, requests, interruptions, limits)
    });
    let report = check(&evidence.await?);
    fanfare::cli::print(&format!("{report}\n"))?;
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
