//! Medians, ranges and percentiles.

use std::time::Duration;

use serde_json::{Value, json};

/// A limit whose best round is so much faster than its worst says more about the machine than about the service.
pub const STEADY: f64 = 1.25;

/// One figure from every round, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure(pub Vec<f64>);

/// A figure's middle and its ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Figure {
    /// None without rounds.
    pub fn summary(&self) -> Option<Summary> {
        let sorted = sorted(&self.0);
        let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Summary { median: (lower + upper) / 2.0, lowest, highest })
    }

    /// Each round's value over the same round's value of `other`: what disturbs the machine disturbs both.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(value, base)| value / base).collect())
    }

    /// None for what was not measured.
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
    /// Whether the rounds agree.
    pub fn is_steady(&self) -> bool {
        self.highest <= self.lowest * STEADY
    }
}

/// The smallest value that at least this share of the values does not exceed (nearest rank): always a value that was
/// measured, and with less than a hundred of them the 99th is the largest.
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// The percentiles that tables show.
pub fn latency_json(values: &[f64]) -> Value {
    json!({
        "p50": percentile(values, 0.5),
        "p99": percentile(values, 0.99),
        "max": percentile(values, 1.0),
        "count": values.len(),
    })
}

/// Per second, from the first of these times in microseconds, which ascend, to the first that is `span` or more after
/// it; none when there is no such time. A pause at the end counts as one in the middle does.
pub fn mean_rate(times: &[i64], span: Duration) -> Option<f64> {
    let first = *times.first()?;
    let intervals = times.partition_point(|at| *at < first + micros(span));
    let last = *times.get(intervals)?;
    Some(intervals as f64 * 1e6 / (last - first) as f64)
}

/// The most of these times in microseconds, which ascend, that lie in one second, wherever it begins.
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
