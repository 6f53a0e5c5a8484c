//! The demo's result: the service's counts compared with what the provider received.

use serde_json::Value;

use super::error::{DemoError, Result};
use crate::sandbox::Stats;

/// The counts of the service and of the provider.
pub(super) struct DemoResult {
    expected: u64,
    counts: Vec<(&'static str, u64)>,
    received: u64,
    distinct: u64,
}

impl DemoResult {
    pub(super) fn new(counts: &Value, provider: &Stats, expected: u64) -> Self {
        let names = ["total", "queued", "sending", "sent", "failed", "expired", "cancelled"];
        let of = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap_or_default();
        Self {
            expected,
            counts: names.into_iter().map(|name| (name, of(name))).collect(),
            received: provider.received,
            distinct: provider.distinct,
        }
    }

    fn of(&self, name: &str) -> u64 {
        self.counts.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count)
    }

    /// The number of messages in a final state.
    pub(super) fn final_total(&self) -> u64 {
        self.of("sent") + self.of("failed") + self.of("expired") + self.of("cancelled")
    }

    pub(super) fn table(&self) -> String {
        let counts: Vec<String> = self.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        format!(
            "the service counted: {}\nthe provider: received {}, distinct {}, repeated {}",
            counts.join(", "),
            self.received,
            self.distinct,
            self.received - self.distinct
        )
    }

    /// Checks that every client is accounted for, and that every message counted as sent was received. If a provider
    /// accepts a message and then cuts the connection, *received* may exceed *sent*, but never the reverse.
    pub(super) fn check(&self) -> Result<()> {
        let complaint = if self.of("total") < self.expected {
            "the mailing missed clients"
        } else if self.final_total() != self.of("total") {
            "the counts do not balance"
        } else if self.distinct < self.of("sent") {
            "the provider received fewer messages than were sent"
        } else {
            return Ok(());
        };
        Err(DemoError::failed(complaint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn books(counts: Value, received: u64, distinct: u64) -> DemoResult {
        DemoResult::new(&counts, &Stats { received, distinct, ..Stats::default() }, 10)
    }

    #[test]
    fn books_that_do_not_agree_are_refused() {
        assert!(books(json!({"total": 10, "sent": 9, "failed": 1}), 9, 9).check().is_ok());
        assert!(books(json!({"total": 10, "sent": 9, "failed": 1}), 12, 10).check().is_ok());
        assert!(books(json!({"total": 9, "sent": 9}), 9, 9).check().is_err(), "one client is missing");
        assert!(books(json!({"total": 10, "sent": 9}), 9, 9).check().is_err(), "one message has no end");
        assert!(
            books(json!({"total": 10, "sent": 10}), 9, 9).check().is_err(),
            "one was sent and not received"
        );
    }
}
