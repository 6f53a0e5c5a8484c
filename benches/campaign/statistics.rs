//! Medians, ranges and percentiles.

use std::time::Duration;

use serde_json::{Value, json};

/// The largest ratio between the limit's best and worst round. A higher one shows a disturbed machine.
pub const STEADY: f64 = 1.25;

/// One figure from every round, in the order of the rounds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure(pub Vec<f64>);

/// A figure's median and range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Figure {
    /// Returns the summary, or `None` without rounds.
    pub fn summary(&self) -> Option<Summary> {
        let sorted = sorted(&self.0);
        let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Summary { median: (lower + upper) / 2.0, lowest, highest })
    }

    /// Divides each round's value by the same round's value of `other`, because a disturbance affects both.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(value, base)| value / base).collect())
    }

    /// Returns the figure as JSON, or null if it was not measured.
    pub fn json(&self) -> Value {
        self.summary().map_or(Value::Null, |summary| {
            json!({
                "median": summary.median,
                "lowest": summary.lowest,
                "highest": summary.highest,
                "rounds": self.0,
            })
        })
    }
}

impl Summary {
    /// Returns true if the rounds agree.
    pub fn is_steady(&self) -> bool {
        self.highest <= self.lowest * STEADY
    }
}

/// Returns the percentile by the nearest rank: the smallest value that at least this share of the values does not
/// exceed. It is always a measured value, and with fewer than a hundred values the 99th percentile is the largest.
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// Returns the percentiles that tables show.
pub fn latency_json(values: &[f64]) -> Value {
    json!({
        "p50": percentile(values, 0.5),
        "p99": percentile(values, 0.99),
        "max": percentile(values, 1.0),
        "count": values.len(),
    })
}

/// Returns the mean rate per second, from the first of these ascending times in microseconds to the first time that is
/// at least `span` later. Returns `None` if no time is that late. A pause at the end counts like a pause in the middle.
pub fn mean_rate(times: &[i64], span: Duration) -> Option<f64> {
    let first = *times.first()?;
    let intervals = times.partition_point(|at| *at < first + micros(span));
    let last = *times.get(intervals)?;
    Some(intervals as f64 * 1e6 / (last - first) as f64)
}

/// Returns the most of these ascending times in microseconds that lie within any one second.
pub fn most_in_a_second(times: &[i64]) -> usize {
    let second = micros(Duration::from_secs(1));
    let from = times.iter().enumerate();
    let counts = from.map(|(index, at)| times.partition_point(|other| *other < at + second) - index);
    counts.max().unwrap_or_default()
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}
