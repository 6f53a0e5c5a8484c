//! Figures of the creation of notifications, as tables and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::args::{EventsAs, Kind};
use crate::statistics::{Figure, latency_json};
use crate::table::{Table, count, latency, middle, number, ranged};

/// Connections that post single notifications.
pub const CONNECTIONS: usize = 64;
/// Connections that post batches.
pub const BATCH_CONNECTIONS: usize = 4;
/// The notifications of a batch: the largest allowed number.
pub const BATCH: usize = 1000;

/// The form of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// One notification as a dry run.
    Rehearsed,
    Single,
    /// One notification with an `Idempotency-Key`.
    Keyed,
    /// A batch as a dry run.
    RehearsedBatch,
    Batch,
}

impl Form {
    pub const SINGLES: [Self; 3] = [Self::Rehearsed, Self::Single, Self::Keyed];
    pub const BATCHES: [Self; 2] = [Self::RehearsedBatch, Self::Batch];

    pub fn name(self) -> &'static str {
        match self {
            Self::Rehearsed => "single, dry run",
            Self::Single => "single",
            Self::Keyed => "single with a key",
            Self::RehearsedBatch => "batch, dry run",
            Self::Batch => "batch",
        }
    }

    pub fn is_batch(self) -> bool {
        matches!(self, Self::RehearsedBatch | Self::Batch)
    }

    /// Returns the same form as a dry run, or `None` for a dry run.
    pub fn rehearsal(self) -> Option<Self> {
        match self {
            Self::Single | Self::Keyed => Some(Self::Rehearsed),
            Self::Batch => Some(Self::RehearsedBatch),
            Self::Rehearsed | Self::RehearsedBatch => None,
        }
    }
}

/// The figures of one form on one database.
#[derive(Debug, Clone, Default)]
pub struct Creation {
    /// Notifications a second.
    pub per_second: Figure,
    /// The milliseconds of each request, of all rounds together.
    pub request: Vec<f64>,
    /// Seconds of CPU for 100,000 notifications.
    pub cpu_service: Figure,
    pub cpu_database: Figure,
    pub cpu_bench: Figure,
    /// The percentage of the machine used by unrelated processes.
    pub cpu_others: Figure,
}

pub type Creations = BTreeMap<(Kind, Form), Creation>;

/// The figures of a spike on one database.
#[derive(Debug, Clone, Default)]
pub struct Spike {
    /// Seconds until all were accepted.
    pub accepted: Figure,
    pub per_second: Figure,
    /// The milliseconds until each was accepted, of all rounds together.
    pub request: Vec<f64>,
    /// The responses with `Retry-After`.
    pub refused: Figure,
    /// The milliseconds from a notification's acceptance to its arrival at the provider, of all rounds together.
    pub lateness: Vec<f64>,
    /// Seconds from the first request to the arrival of the last notification at the provider.
    pub arrived: Figure,
    /// Seconds from the mailing's POST until its counts were final.
    pub mailing: Figure,
    /// The peak memory in megabytes.
    pub peak_memory: Figure,
}

pub type Spikes = BTreeMap<Kind, Spike>;

/// The figures of a spike of events on one database.
#[derive(Debug, Clone, Default)]
pub struct Events {
    /// Seconds until all were accepted.
    pub accepted: Figure,
    pub per_second: Figure,
    /// The milliseconds until each was accepted, of all rounds together.
    pub request: Vec<f64>,
    /// The responses with `Retry-After`.
    pub refused: Figure,
    /// Seconds from the first request to the arrival of the last notification at the provider.
    pub arrived: Figure,
    /// The events that were accepted without reaching the provider.
    pub lost: Figure,
    /// The peak memory in megabytes.
    pub peak_memory: Figure,
}

pub type EventSpikes = BTreeMap<Kind, Events>;

/// Returns a form's rate divided by that of its dry run, round by round.
fn of_rehearsal(creations: &Creations, (kind, form): (Kind, Form), creation: &Creation) -> Figure {
    let rehearsal = form.rehearsal().and_then(|form| creations.get(&(kind, form)));
    rehearsal.map(|rehearsal| creation.per_second.over(&rehearsal.per_second)).unwrap_or_default()
}

/// Returns the table of creations, or `None` if none were measured.
pub fn creations_text(creations: &Creations) -> Option<String> {
    let header = [
        "database",
        "request",
        "notifications/s",
        "of the dry run",
        "p50 ms",
        "p99 ms",
        "max ms",
        "of",
        "CPU s: service",
        "database",
        "bench",
        "others %",
    ];
    let mut table = Table::new(2, &header);
    for ((kind, form), creation) in creations {
        let mut cells = vec![
            kind.name().to_owned(),
            form.name().to_owned(),
            ranged(&creation.per_second, number),
            ranged(&of_rehearsal(creations, (*kind, *form), creation), number),
        ];
        cells.extend(latency(&creation.request));
        let spent = [&creation.cpu_service, &creation.cpu_database, &creation.cpu_bench];
        cells.extend(spent.map(middle));
        cells.push(ranged(&creation.cpu_others, number));
        table.row(cells);
    }
    let title = format!(
        "Creating notifications (singles over {CONNECTIONS} connections, batches of {} over {BATCH_CONNECTIONS}; \
         CPU for 100,000)",
        count(BATCH as f64)
    );
    (!creations.is_empty()).then(|| format!("{title}\n{}", table.text()))
}

/// Returns the first cells of a spike's row.
fn posting(
    kind: Kind,
    (accepted, per_second): (&Figure, &Figure),
    request: &[f64],
    (refused, arrived): (&Figure, &Figure),
) -> Vec<String> {
    let mut cells = vec![kind.name().to_owned(), ranged(accepted, number), ranged(per_second, number)];
    cells.extend(latency(request).into_iter().take(3));
    cells.extend([ranged(refused, count), ranged(arrived, number)]);
    cells
}

/// Returns the table of spikes, or `None` if none were measured.
pub fn spikes_text(spikes: &Spikes, posted: u64, recipients: u64) -> Option<String> {
    let header = [
        "database",
        "accepted s",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "refused",
        "at the provider s",
        "lateness ms: p50",
        "p99",
        "max",
        "mailing s",
        "peak MB",
    ];
    let mut table = Table::new(1, &header);
    for (kind, spike) in spikes {
        let taken = (&spike.accepted, &spike.per_second);
        let mut cells = posting(*kind, taken, &spike.request, (&spike.refused, &spike.arrived));
        cells.extend(latency(&spike.lateness).into_iter().take(3));
        cells.extend([ranged(&spike.mailing, number), ranged(&spike.peak_memory, number)]);
        table.row(cells);
    }
    let (posted, recipients) = (count(posted as f64), count(recipients as f64));
    let title =
        format!("A spike of {posted} single notifications in the middle of a mailing of {recipients}");
    (!spikes.is_empty()).then(|| format!("{title}\n{}", table.text()))
}

/// Returns the table of event spikes, or `None` if none were measured.
pub fn events_text(spikes: &EventSpikes, posted: u64, posted_as: EventsAs) -> Option<String> {
    let header = [
        "database",
        "accepted s",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "refused",
        "at the provider s",
        "lost",
        "peak MB",
    ];
    let mut table = Table::new(1, &header);
    for (kind, events) in spikes {
        let taken = (&events.accepted, &events.per_second);
        let mut cells = posting(*kind, taken, &events.request, (&events.refused, &events.arrived));
        cells.extend([ranged(&events.lost, count), ranged(&events.peak_memory, number)]);
        table.row(cells);
    }
    let what = match posted_as {
        EventsAs::Events => "events",
        EventsAs::Notifications => "notifications as events would cause them",
    };
    let title = format!("A spike of {} {what} (over {CONNECTIONS} connections)", count(posted as f64));
    (!spikes.is_empty()).then(|| format!("{title}\n{}", table.text()))
}

pub fn creations_json(creations: &Creations) -> Vec<Value> {
    let one = |((kind, form), creation): (&(Kind, Form), &Creation)| {
        json!({
            "database": kind.name(),
            "request": form.name(),
            "notifications_per_second": creation.per_second.json(),
            "of_dry_run": of_rehearsal(creations, (*kind, *form), creation).json(),
            "request_ms": latency_json(&creation.request),
            "cpu_service_s_per_100000": creation.cpu_service.json(),
            "cpu_database_s_per_100000": creation.cpu_database.json(),
            "cpu_bench_s_per_100000": creation.cpu_bench.json(),
            "cpu_others_percent": creation.cpu_others.json(),
        })
    };
    creations.iter().map(one).collect()
}

pub fn spike_json(spike: &Spike, posted: u64, recipients: u64) -> Value {
    json!({
        "notifications": posted,
        "recipients": recipients,
        "accepted_s": spike.accepted.json(),
        "requests_per_second": spike.per_second.json(),
        "request_ms": latency_json(&spike.request),
        "refused": spike.refused.json(),
        "at_provider_s": spike.arrived.json(),
        "lateness_ms": latency_json(&spike.lateness),
        "mailing_s": spike.mailing.json(),
        "peak_memory_mb": spike.peak_memory.json(),
    })
}

pub fn events_json(events: &Events, posted: u64) -> Value {
    json!({
        "events": posted,
        "accepted_s": events.accepted.json(),
        "requests_per_second": events.per_second.json(),
        "request_ms": latency_json(&events.request),
        "refused": events.refused.json(),
        "at_provider_s": events.arrived.json(),
        "lost": events.lost.json(),
        "peak_memory_mb": events.peak_memory.json(),
    })
}
