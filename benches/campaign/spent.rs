//! The CPU usage of the processes that take part in a measurement.

use fanfare::clock::Clock;
use fanfare::db::types::Timestamp;

use crate::database::Database;
use crate::machine::others;
use crate::{Bench, Result};

/// The seconds of CPU used up to now by each participant.
pub struct Spent {
    at: Timestamp,
    pub sender: f64,
    pub database: Option<f64>,
    pub provider: f64,
    /// The benchmark's own usage.
    pub bench: f64,
    /// The usage of all participants including the benchmark.
    known: f64,
    machine: f64,
}

impl Spent {
    pub fn read(bench: &Bench, sender: u32, database: Option<&Database>, provider: u32) -> Result<Self> {
        let myself = std::process::id();
        let of = |pid| bench.cpu.of(pid);
        let (seconds, provider) = (of(sender)?, of(provider)?);
        let database = database.map(|database| database.cpu(&bench.cpu)).transpose()?.flatten();
        let own = of(myself)?;
        let watching = if sender == myself { 0.0 } else { own };
        Ok(Self {
            at: Clock::System.now(),
            sender: seconds,
            database,
            provider,
            bench: own,
            known: seconds + provider + watching + database.unwrap_or_default(),
            machine: bench.cpu.of_machine()?,
        })
    }

    /// Adds the seconds of another participant.
    pub fn and(mut self, seconds: f64) -> Self {
        self.known += seconds;
        self
    }

    /// Returns the percentage of the machine used since `before` by unrelated processes.
    pub fn others_since(&self, before: &Self) -> Result<f64> {
        let (machine, known) = (self.machine - before.machine, self.known - before.known);
        others(machine, known, self.at.since(before.at))
    }
}
