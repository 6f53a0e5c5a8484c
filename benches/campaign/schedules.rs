//! Figures of scheduled requests, as a table and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::args::Kind;
use crate::statistics::{Figure, latency_json};
use crate::table::{Table, count, latency, number, ranged};

/// The distribution of the requests' times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schedule {
    /// All at one moment.
    Moment,
    /// Spread over a minute, in the middle of which the service is killed.
    Minute,
}

impl Schedule {
    pub fn requests(self) -> usize {
        match self {
            Self::Moment => 1000,
            Self::Minute => 10_000,
        }
    }

    fn name(self) -> String {
        let requests = count(self.requests() as f64);
        match self {
            Self::Moment => format!("{requests} at one moment"),
            Self::Minute => format!("{requests} in a minute, kill -9"),
        }
    }
}

/// The figures of a schedule on one database.
#[derive(Debug, Clone, Default)]
pub struct Scheduled {
    /// The requests accepted in a second.
    pub per_second: Figure,
    /// The milliseconds from a request's time to its arrival, of all rounds together.
    pub lateness: Vec<f64>,
    /// The milliseconds from a request's arrival to the arrival of its result, of all rounds together.
    pub result: Vec<f64>,
    /// Seconds from the kill to the arrival of the next request.
    pub away: Figure,
    /// The requests and results that arrived twice.
    pub repeated: Figure,
    /// The peak memory in megabytes.
    pub peak_memory: Figure,
}

pub type Schedules = BTreeMap<(Kind, Schedule), Scheduled>;

/// Returns the table of scheduled requests, or `None` if none were measured.
pub fn schedules_text(schedules: &Schedules) -> Option<String> {
    let header = [
        "database",
        "requests",
        "accepted/s",
        "lateness ms: p50",
        "p99",
        "max",
        "result ms: p50",
        "p99",
        "max",
        "away s",
        "repeated",
        "peak MB",
    ];
    let mut table = Table::new(2, &header);
    for ((kind, schedule), scheduled) in schedules {
        let mut cells = vec![kind.name().to_owned(), schedule.name(), ranged(&scheduled.per_second, number)];
        for values in [&scheduled.lateness, &scheduled.result] {
            cells.extend(latency(values).into_iter().take(3));
        }
        cells.extend([
            ranged(&scheduled.away, number),
            ranged(&scheduled.repeated, count),
            ranged(&scheduled.peak_memory, number),
        ]);
        table.row(cells);
    }
    let title = "Scheduled requests, each with its result reported, none of them lost";
    (!schedules.is_empty()).then(|| format!("{title}\n{}", table.text()))
}

pub fn schedules_json(schedules: &Schedules) -> Vec<Value> {
    let one = |((kind, schedule), scheduled): (&(Kind, Schedule), &Scheduled)| {
        json!({
            "database": kind.name(),
            "requests": schedule.requests(),
            "killed": *schedule == Schedule::Minute,
            "accepted_per_second": scheduled.per_second.json(),
            "lateness_ms": latency_json(&scheduled.lateness),
            "result_ms": latency_json(&scheduled.result),
            "away_s": scheduled.away.json(),
            "repeated": scheduled.repeated.json(),
            "peak_memory_mb": scheduled.peak_memory.json(),
        })
    };
    schedules.iter().map(one).collect()
}
