//! Figures of events from brokers, as a table and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::args::Kind;
use crate::statistics::{Figure, latency_json};
use crate::table::{Table, count, latency, middle, number, ranged};

/// The events of one request of [`Source::Batches`], which equal the default size of a broker's batch.
pub const EVENTS_OF_BATCH: u64 = 500;
/// The partitions of the topic.
pub const PARTITIONS: i32 = 12;

/// The source of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `POST /events`, the base of the ratios.
    Posts,
    /// `POST /events/batch`.
    Batches,
    Nats,
    Kafka,
}

impl Source {
    pub const ALL: [Self; 4] = [Self::Posts, Self::Batches, Self::Nats, Self::Kafka];

    pub fn name(self) -> &'static str {
        match self {
            Self::Posts => "POST /events",
            Self::Batches => "POST /events/batch",
            Self::Nats => "NATS JetStream",
            Self::Kafka => "Kafka",
        }
    }

    /// Returns true if the service reads the events from a broker.
    pub fn is_broker(self) -> bool {
        matches!(self, Self::Nats | Self::Kafka)
    }
}

/// The figures of one source on one database.
#[derive(Debug, Clone, Default)]
pub struct SourceSpike {
    /// Events a second, from the first one until all are stored.
    pub per_second: Figure,
    /// Milliseconds from the start of the process until the first event was read. Only for brokers.
    pub first: Figure,
    /// Seconds from the first event to the arrival of the last notification at the provider.
    pub arrived: Figure,
    /// The milliseconds from the POST of an urgent notification to its arrival at the provider, of all rounds together.
    pub urgent: Vec<f64>,
    /// Seconds of CPU for 100,000 events.
    pub cpu_service: Figure,
    pub cpu_database: Figure,
    pub cpu_broker: Figure,
    /// The percentage of the machine used by unrelated processes.
    pub cpu_others: Figure,
    /// The peak memory in megabytes.
    pub peak_memory: Figure,
}

pub type SourceSpikes = BTreeMap<(Kind, Source), SourceSpike>;

/// Returns a source's rate divided by that of `POST /events`, round by round.
fn of_posts(spikes: &SourceSpikes, kind: Kind, source: Source, spike: &SourceSpike) -> Figure {
    let posts = spikes.get(&(kind, Source::Posts)).filter(|_| source != Source::Posts);
    posts.map(|posts| spike.per_second.over(&posts.per_second)).unwrap_or_default()
}

/// Returns the table of sources, or `None` if none were measured.
pub fn sources_text(spikes: &SourceSpikes, events: u64) -> Option<String> {
    let header = [
        "database",
        "source",
        "events/s",
        "of POST",
        "first ms",
        "at the provider s",
        "urgent ms: p50",
        "p99",
        "max",
        "of",
        "CPU s: service",
        "database",
        "broker",
        "others %",
        "peak MB",
    ];
    let mut table = Table::new(2, &header);
    for ((kind, source), spike) in spikes {
        let mut cells = vec![
            kind.name().to_owned(),
            source.name().to_owned(),
            ranged(&spike.per_second, number),
            ranged(&of_posts(spikes, *kind, *source, spike), number),
            ranged(&spike.first, count),
            ranged(&spike.arrived, number),
        ];
        cells.extend(latency(&spike.urgent));
        cells.extend([&spike.cpu_service, &spike.cpu_database, &spike.cpu_broker].map(middle));
        cells.extend([ranged(&spike.cpu_others, number), ranged(&spike.peak_memory, number)]);
        table.row(cells);
    }
    let title = format!(
        "A spike of {} events, by HTTP and from brokers (batches of {EVENTS_OF_BATCH}; a topic with {PARTITIONS} \
         partitions; CPU for 100,000)",
        count(events as f64)
    );
    (!spikes.is_empty()).then(|| format!("{title}\n{}", table.text()))
}

pub fn sources_json(spikes: &SourceSpikes, events: u64) -> Vec<Value> {
    let one = |((kind, source), spike): (&(Kind, Source), &SourceSpike)| {
        json!({
            "database": kind.name(),
            "source": source.name(),
            "events": events,
            "events_per_second": spike.per_second.json(),
            "of_posts": of_posts(spikes, *kind, *source, spike).json(),
            "first_event_ms": spike.first.json(),
            "at_provider_s": spike.arrived.json(),
            "urgent_ms": latency_json(&spike.urgent),
            "cpu_service_s_per_100000": spike.cpu_service.json(),
            "cpu_database_s_per_100000": spike.cpu_database.json(),
            "cpu_broker_s_per_100000": spike.cpu_broker.json(),
            "cpu_others_percent": spike.cpu_others.json(),
            "peak_memory_mb": spike.peak_memory.json(),
        })
    };
    spikes.iter().map(one).collect()
}
