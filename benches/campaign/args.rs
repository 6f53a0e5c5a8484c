//! The command-line flags.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The size of the large mailing. It takes minutes a round, so it is measured only on request.
const LARGE: u64 = 1_000_000;
/// The largest mailing of the parts that do not need the largest size.
const MIDDLE: u64 = 100_000;
/// The clients for the part `rates`: more than the fastest measured rate sends in its time.
pub const RATED: u64 = 80_000;

/// Measures Fanfare on SQLite and PostgreSQL against a loop that sends the same requests without a database and engine.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench")]
pub struct Args {
    /// Number of rounds; each round measures every case once, and the cases take turns
    #[arg(long, value_name = "N", default_value = "5")]
    pub rounds: NonZeroUsize,

    /// Recipients of a mailing, separated by commas
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [10_000, 100_000],
        value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    sizes: Vec<u64>,

    /// Also measure a mailing of 1,000,000 recipients
    #[arg(long)]
    large: bool,

    /// Response times of the provider in milliseconds, separated by commas
    #[arg(long, value_name = "MS,…", value_delimiter = ',', default_values_t = [0, 20],
        value_parser = clap::value_parser!(u64).range(0..=10_000))]
    delays: Vec<u64>,

    /// Concurrent requests (SMS_WORKERS) to a provider without delay
    #[arg(long, value_name = "N", default_value = "64")]
    in_flight: NonZeroUsize,

    /// Concurrent requests to a provider with a delay
    #[arg(long, value_name = "N", default_value = "256")]
    in_flight_delayed: NonZeroUsize,

    /// Databases to measure, separated by commas
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_enum,
        default_values_t = [Kind::Sqlite, Kind::Postgres])]
    databases: Vec<Kind>,

    /// Parts to run, separated by commas
    #[arg(long, value_name = "PART,…", value_delimiter = ',', value_enum,
        default_values_t = Part::value_variants().to_vec())]
    parts: Vec<Part>,

    /// Rows of the file that the part `imports` imports
    #[arg(long, value_name = "N", default_value = "200000",
        value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    pub rows: u64,

    /// Binary of another version, with which the part `imports` imports the same file in turns
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,

    /// Kind of requests that the part `events` posts
    #[arg(long, value_name = "WHAT", value_enum, default_value = "events")]
    pub events_as: EventsAs,

    /// File for the figures; by default bench.json in cargo's target directory
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// The flag that cargo adds when it runs a benchmark.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// A database system that the service runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Whole mailings, against the limit
    Mailings,
    /// Statistics, pauses and urgent messages in the middle of a mailing
    Answers,
    /// Restart after kill -9
    Recovery,
    /// Creating clients, one by one and from CSV
    Ingest,
    /// Import of a large file of clients, its memory, and the parsing of phone numbers
    Imports,
    /// Accuracy of a channel's rate limit
    Rates,
    /// Creating notifications, one by one and in batches
    Notifications,
    /// A hundred thousand notifications at once, during a mailing
    Spike,
    /// Fifty thousand events at once
    Events,
    /// Fifty thousand events by HTTP, from NATS JetStream and from Kafka
    Brokers,
    /// A thousand requests for one moment, and ten thousand over a minute with a kill -9
    Requests,
    /// A thousand slow connections beside normal traffic
    Strangers,
}

/// The kind of requests that the part `events` posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EventsAs {
    /// Events with a route
    Events,
    /// The notifications that the events would cause; the difference between the figures is the cost of events
    Notifications,
}

/// The provider's delay and the number of concurrent requests to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Provider {
    pub delay: Duration,
    pub in_flight: usize,
}

impl Args {
    pub fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    pub fn databases(&self) -> Vec<Kind> {
        let mut databases = self.databases.clone();
        databases.sort_unstable();
        databases.dedup();
        databases
    }

    /// Returns the numbers of clients for which template databases are imported.
    pub fn imported(&self) -> Vec<u64> {
        let wanted = |size: &u64| {
            self.wants(Part::Mailings)
                || self.wants(Part::Answers) && *size == self.largest()
                || (self.wants(Part::Recovery) || self.wants(Part::Spike)) && *size == self.middle()
        };
        let mut imported: Vec<u64> = self.sizes().into_iter().filter(wanted).collect();
        imported.extend(self.wants(Part::Rates).then_some(RATED));
        imported.sort_unstable();
        imported.dedup();
        imported
    }

    /// Returns the sizes of mailings in ascending order.
    pub fn sizes(&self) -> Vec<u64> {
        let mut sizes = self.sizes.clone();
        sizes.extend(self.large.then_some(LARGE));
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    pub fn largest(&self) -> u64 {
        self.sizes().last().copied().unwrap_or(LARGE)
    }

    /// Returns the largest size up to a hundred thousand, or else the smallest.
    pub fn middle(&self) -> u64 {
        let sizes = self.sizes();
        let middle = sizes.iter().rev().find(|size| **size <= MIDDLE).or(sizes.first());
        middle.copied().unwrap_or(MIDDLE)
    }

    /// Returns the providers from the fastest to the slowest.
    pub fn providers(&self) -> Vec<Provider> {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        delays.dedup();
        delays.into_iter().map(|delay| self.provider(Duration::from_millis(delay))).collect()
    }

    /// Returns a provider with this delay.
    pub fn provider(&self, delay: Duration) -> Provider {
        let in_flight = if delay.is_zero() { self.in_flight } else { self.in_flight_delayed };
        Provider { delay, in_flight: in_flight.get() }
    }
}
