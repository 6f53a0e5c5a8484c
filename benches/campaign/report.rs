//! The report of all measurements, as tables for people and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::answers::Answers;
use crate::args::{Args, Kind};
use crate::creations::{self, Creations, EventSpikes, Spikes};
use crate::events;
use crate::ingest::Ingest;
use crate::mailings::{Case, Figures, Measured, Sender};
use crate::phones::Readings;
use crate::rates::Rates;
use crate::recovery::Recovery;
use crate::schedules::{self, Schedules};
use crate::sources::{self, SourceSpikes};
use crate::spike::POSTED;
use crate::statistics::{Figure, STEADY, latency_json};
use crate::strangers::{self, Strangers};
use crate::table::{Table, count, latency, middle, number, ranged};
use crate::uploads::{self, Imports};

/// The percentage of the machine that unrelated processes may use. A higher usage disturbs a measurement even if it is
/// steady. The kernel's own work for disk and network is below this bound.
const QUIET: f64 = 20.0;

/// All measurements. Parts that did not run are empty.
pub struct Report {
    pub args: Args,
    pub machine: Value,
    pub mailings: Measured,
    pub answers: BTreeMap<Kind, Answers>,
    pub recovery: BTreeMap<Kind, Recovery>,
    pub ingest: BTreeMap<Kind, Ingest>,
    pub imports: Imports,
    pub phones: Readings,
    pub rates: Rates,
    pub creations: Creations,
    pub spikes: Spikes,
    pub events: EventSpikes,
    pub sources: SourceSpikes,
    pub schedules: Schedules,
    pub strangers: Strangers,
}

impl Report {
    /// Returns the tables.
    pub fn text(&self) -> String {
        let rounds = self.args.rounds;
        let mut text = format!(
            "Rounds: {rounds}. Medians, and in brackets the lowest and the highest.\n{}\n",
            self.machine_line()
        );
        let parts = [
            self.mailings_text(),
            self.growth_text(),
            self.answers_text(),
            self.recovery_text(),
            self.ingest_text(),
            uploads::imports_text(&self.imports, self.args.rows),
            uploads::phones_text(&self.phones),
            self.rates_text(),
            creations::creations_text(&self.creations),
            creations::spikes_text(&self.spikes, POSTED, self.args.middle()),
            creations::events_text(&self.events, events::POSTED, self.args.events_as),
            sources::sources_text(&self.sources, events::POSTED),
            schedules::schedules_text(&self.schedules),
            strangers::strangers_text(&self.strangers),
            self.disturbed_text(),
        ];
        for part in parts.into_iter().flatten() {
            text.push('\n');
            text.push_str(&part);
        }
        text
    }

    /// Returns the figures as JSON, with the value of every round.
    pub fn json(&self) -> Value {
        let kinds = |of: &dyn Fn(Kind) -> Option<Value>| {
            let entries =
                [Kind::Sqlite, Kind::Postgres].into_iter().filter_map(|kind| Some((kind.name(), of(kind)?)));
            entries.map(|(name, value)| (name.to_owned(), value)).collect::<serde_json::Map<_, _>>()
        };
        json!({
            "machine": self.machine,
            "rounds": self.args.rounds,
            "unsteady_limit": self.mailings.iter().any(|(case, figures)| is_unsteady(case, figures)),
            "disturbed": self.others() > QUIET,
            "mailings": self.mailings.iter().map(|(case, figures)| self.case_json(case, figures)).collect::<Vec<_>>(),
            "growth": self.growth().iter().map(|(small, large, growth)| json!({
                "sender": small.sender_name(),
                "delay_ms": milliseconds(small),
                "from_recipients": small.recipients,
                "to_recipients": large.recipients,
                "microseconds_a_message": growth.json(),
            })).collect::<Vec<_>>(),
            "answers": kinds(&|kind| self.answers.get(&kind).map(|answers| json!({
                "recipients": self.args.largest(),
                "statistics_ms": latency_json(&answers.statistics),
                "pause_ms": latency_json(&answers.pause),
                "pause_holds_ms": latency_json(&answers.pause_holds),
                "urgent_lateness_ms": latency_json(&answers.urgent),
                "scheduled_lateness_ms": latency_json(&answers.scheduled),
            }))),
            "recovery": kinds(&|kind| self.recovery.get(&kind).map(|recovery| json!({
                "recipients": self.args.middle(),
                "first_delivery_ms": recovery.first_delivery.json(),
                "finished_s": recovery.finished.json(),
                "repeated": recovery.repeated.json(),
            }))),
            "ingest": kinds(&|kind| self.ingest.get(&kind).map(|ingest| json!({
                "requests_per_second": ingest.requests_per_second.json(),
                "request_ms": latency_json(&ingest.request),
                "rows": self.args.middle(),
                "rows_per_second": ingest.rows_per_second.json(),
            }))),
            "imports": uploads::uploads_json(&self.imports, self.args.rows, &self.phones),
            "rates": self.rates.iter().map(|(case, held)| json!({
                "database": case.kind.name(),
                "nodes": case.nodes,
                "limit_per_second": case.limit,
                "killed": case.is_killed,
                "messages": held.messages,
                "mean_per_second": held.mean,
                "error_percent": held.error(case),
                "most_in_a_second": held.most,
                "allowed_in_a_second": case.allowed(),
                "holds": held.holds(case),
                "cpu_others_percent": held.others,
            })).collect::<Vec<_>>(),
            "notifications": creations::creations_json(&self.creations),
            "spike": kinds(&|kind| {
                let spike = self.spikes.get(&kind);
                spike.map(|spike| creations::spike_json(spike, POSTED, self.args.middle()))
            }),
            "events": kinds(&|kind| {
                self.events.get(&kind).map(|spike| creations::events_json(spike, events::POSTED))
            }),
            "brokers": sources::sources_json(&self.sources, events::POSTED),
            "requests": schedules::schedules_json(&self.schedules),
            "strangers": strangers::strangers_json(&self.strangers),
        })
    }

    fn machine_line(&self) -> String {
        let known = |name: &str| match self.machine.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(value) => Some(number(value.as_f64().unwrap_or_default())),
            _ => None,
        };
        let fact = |name| known(name).unwrap_or_else(|| "unknown".to_owned());
        // unknown if PostgreSQL was not measured
        let postgres = known("postgres").map(|version| format!("PostgreSQL {version}, ")).unwrap_or_default();
        let cores = self.machine.get("cores").and_then(Value::as_u64).unwrap_or_default();
        format!(
            "{cores} cores ({}), {} MB, Linux {}, {} with {} ms a sync, {postgres}SQLite {}, commit {}",
            fact("processor"),
            fact("memory_mb"),
            fact("kernel"),
            fact("file_system"),
            fact("fsync_ms"),
            fact("sqlite"),
            fact("commit"),
        )
    }

    fn mailings_text(&self) -> Option<String> {
        if self.mailings.is_empty() {
            return None;
        }
        let mut table = Table::new(
            4,
            &[
                "recipients",
                "provider",
                "in flight",
                "sender",
                "messages/s",
                "of the limit",
                "of in flight/delay",
                "CPU s: service",
                "database",
                "provider",
                "others %",
                "peak MB",
                "first ms",
                "stored B",
                "WAL B",
                "written B",
            ],
        );
        for (case, figures) in &self.mailings {
            table.row(vec![
                count(case.recipients as f64),
                format!("{} ms", milliseconds(case)),
                case.provider.in_flight.to_string(),
                case.sender_name().to_owned(),
                ranged(&figures.per_second, number),
                if is_unsteady(case, figures) {
                    "UNSTEADY".to_owned()
                } else {
                    ranged(&self.of_limit(case, figures), number)
                },
                middle(&of_ceiling(case, figures)),
                middle(&figures.cpu_service),
                middle(&figures.cpu_database),
                middle(&figures.cpu_provider),
                ranged(&figures.cpu_others, number),
                middle(&figures.peak_memory),
                ranged(&figures.first_delivery, number),
                middle(&figures.stored),
                middle(&figures.wal),
                middle(&figures.written),
            ]);
        }
        Some(format!(
            "Mailings (CPU for 100,000 messages; stored, WAL and written for one)\n{}{}",
            table.text(),
            self.warnings()
        ))
    }

    /// Returns the warnings about figures that must not be compared with others.
    fn warnings(&self) -> String {
        let unsteady = self.mailings.iter().filter(|(case, figures)| is_unsteady(case, figures));
        unsteady
            .map(|(case, figures)| {
                let ratio = figures.per_second.summary().map_or(0.0, |s| s.highest / s.lowest);
                format!(
                    "!!! THE LIMIT WAS UNSTEADY: {} messages at {} ms went {} times as fast in the best round as in the \
                     worst; {STEADY} is allowed. Measure again before you compare.\n",
                    count(case.recipients as f64),
                    milliseconds(case),
                    number(ratio),
                )
            })
            .collect()
    }

    fn disturbed_text(&self) -> Option<String> {
        let others = self.others();
        (others > QUIET).then(|| {
            format!("!!! OTHERS USED {} % OF THE MACHINE: these figures are of the rest.\n", count(others))
        })
    }

    /// Returns the percentage of the machine used by unrelated processes, in the case that was disturbed most.
    fn others(&self) -> f64 {
        let mailings = self.mailings.values().map(|figures| &figures.cpu_others);
        let others = mailings.chain(self.creations.values().map(|creation| &creation.cpu_others));
        let others = others.chain(self.imports.values().map(|import| &import.cpu_others));
        let others = others.chain(self.sources.values().map(|spike| &spike.cpu_others));
        let medians = others.filter_map(Figure::summary);
        medians.map(|summary| summary.median).fold(0.0, f64::max)
    }

    fn growth_text(&self) -> Option<String> {
        let growth = self.growth();
        let (small, large, _) = growth.first()?;
        let title = format!(
            "Microseconds a message at {} recipients over those at {}",
            count(large.recipients as f64),
            count(small.recipients as f64)
        );
        let mut table = Table::new(2, &["provider", "sender", "ratio"]);
        for (small, _, growth) in &growth {
            table.row(vec![
                format!("{} ms", milliseconds(small)),
                small.sender_name().to_owned(),
                ranged(growth, number),
            ]);
        }
        Some(format!("{title}\n{}", table.text()))
    }

    fn answers_text(&self) -> Option<String> {
        let mut table = Table::new(2, &["database", "ms", "p50", "p99", "max", "of"]);
        for (kind, answers) in &self.answers {
            let rows = [
                ("GET /mailings/{id}/stats", &answers.statistics),
                ("POST /mailings/{id}/pause", &answers.pause),
                ("until the pause holds", &answers.pause_holds),
                ("lateness, urgent", &answers.urgent),
                ("lateness, scheduled, idle", &answers.scheduled),
            ];
            for (name, values) in rows {
                let mut cells = vec![kind.name().to_owned(), name.to_owned()];
                cells.extend(latency(values));
                table.row(cells);
            }
        }
        let recipients = count(self.args.largest() as f64);
        let title = format!("In the middle of a mailing of {recipients}, provider without delay");
        (!self.answers.is_empty()).then(|| format!("{title}\n{}", table.text()))
    }

    fn recovery_text(&self) -> Option<String> {
        let mut table = Table::new(1, &["database", "first delivery ms", "finished s", "repeated"]);
        for (kind, recovery) in &self.recovery {
            table.row(vec![
                kind.name().to_owned(),
                ranged(&recovery.first_delivery, number),
                ranged(&recovery.finished, number),
                ranged(&recovery.repeated, count),
            ]);
        }
        let recipients = count(self.args.middle() as f64);
        let title = format!("After kill -9 in the middle of a mailing of {recipients}, from the restart on");
        (!self.recovery.is_empty()).then(|| format!("{title}\n{}", table.text()))
    }

    fn ingest_text(&self) -> Option<String> {
        let mut table = Table::new(
            1,
            &["database", "POST /clients a second", "p50 ms", "p99 ms", "max ms", "of", "CSV rows a second"],
        );
        for (kind, ingest) in &self.ingest {
            let mut cells = vec![kind.name().to_owned(), ranged(&ingest.requests_per_second, number)];
            cells.extend(latency(&ingest.request));
            cells.push(ranged(&ingest.rows_per_second, number));
            table.row(cells);
        }
        (!self.ingest.is_empty())
            .then(|| format!("Creating clients (64 connections; one import)\n{}", table.text()))
    }

    fn rates_text(&self) -> Option<String> {
        let mut table = Table::new(
            1,
            &[
                "database",
                "nodes",
                "limit/s",
                "messages",
                "mean/s over 10 s",
                "error %",
                "most in a second",
                "allowed",
                "others %",
            ],
        );
        let mut warnings = String::new();
        for (case, held) in &self.rates {
            let or_none = |value: Option<f64>, show: fn(f64) -> String| value.map_or("-".to_owned(), show);
            table.row(vec![
                case.name(),
                case.nodes.to_string(),
                count(f64::from(case.limit)),
                count(held.messages as f64),
                or_none(held.mean, |mean| format!("{mean:.2}")),
                or_none(held.error(case), |error| format!("{error:.2}")),
                count(held.most as f64),
                format!("{:.1}", case.allowed()),
                number(held.others),
            ]);
            if !held.holds(case) {
                let limit = count(f64::from(case.limit));
                warnings.push_str(&format!("!!! A RATE DID NOT HOLD: {limit} a second, {}.\n", case.name()));
            }
        }
        (!self.rates.is_empty())
            .then(|| format!("Rates of a channel, at the provider\n{}{warnings}", table.text()))
    }

    fn of_limit(&self, case: &Case, figures: &Figures) -> Figure {
        match (case.sender, self.mailings.get(&case.limit())) {
            (Sender::Adapter | Sender::Service(_), Some(limit)) => figures.per_second.over(&limit.per_second),
            _ => Figure::default(),
        }
    }

    /// Returns the smallest and the largest mailing of each sender and provider, with the ratio of their times a
    /// message.
    fn growth(&self) -> Vec<(Case, Case, Figure)> {
        let sizes = self.args.sizes();
        let (Some(&smallest), Some(&largest)) = (sizes.first(), sizes.last()) else { return Vec::new() };
        if smallest == largest {
            return Vec::new();
        }
        let small = self.mailings.iter().filter(|(case, _)| case.recipients == smallest);
        let pairs = small.filter_map(|(case, figures)| {
            let large = Case { recipients: largest, ..*case };
            // the time of a message is the inverse of the rate
            Some((*case, large, figures.per_second.over(&self.mailings.get(&large)?.per_second)))
        });
        pairs.collect()
    }

    fn case_json(&self, case: &Case, figures: &Figures) -> Value {
        json!({
            "recipients": case.recipients,
            "delay_ms": milliseconds(case),
            "in_flight": case.provider.in_flight,
            "sender": case.sender_name(),
            "unsteady": is_unsteady(case, figures),
            "messages_per_second": figures.per_second.json(),
            "of_limit": self.of_limit(case, figures).json(),
            "of_in_flight_over_delay": of_ceiling(case, figures).json(),
            "cpu_service_s_per_100000": figures.cpu_service.json(),
            "cpu_database_s_per_100000": figures.cpu_database.json(),
            "cpu_provider_s_per_100000": figures.cpu_provider.json(),
            "cpu_others_percent": figures.cpu_others.json(),
            "peak_memory_mb": figures.peak_memory.json(),
            "first_delivery_ms": figures.first_delivery.json(),
            "stored_bytes_a_message": figures.stored.json(),
            "wal_bytes_a_message": figures.wal.json(),
            "written_bytes_a_message": figures.written.json(),
        })
    }
}

/// Returns true if the limit varied. Only its variance shows a disturbed machine: the service may vary by itself.
fn is_unsteady(case: &Case, figures: &Figures) -> bool {
    case.sender == Sender::Limit && figures.per_second.summary().is_some_and(|summary| !summary.is_steady())
}

/// Returns the rate divided by the theoretical one, at which each request takes only the provider's delay.
fn of_ceiling(case: &Case, figures: &Figures) -> Figure {
    if case.provider.delay.is_zero() {
        return Figure::default();
    }
    let ceiling = case.provider.in_flight as f64 / case.provider.delay.as_secs_f64();
    Figure(figures.per_second.0.iter().map(|rate| rate / ceiling).collect())
}

fn milliseconds(case: &Case) -> u128 {
    case.provider.delay.as_millis()
}
