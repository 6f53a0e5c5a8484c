//! Whole mailings on each database, compared with the limit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use fanfare::clock::Clock;
use fanfare::demo::generator::Generator;
use fanfare::sandbox::Stats;
use serde_json::json;

use crate::args::{Kind, Provider};
use crate::database::{Database, SEED};
use crate::limit::{self, Recipient};
use crate::machine::{peak_memory, written};
use crate::process::{Sandbox, Service};
use crate::spent::Spent;
use crate::statistics::Figure;
use crate::{Bench, Result};

/// The sender of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// A loop over reqwest.
    Limit,
    /// The same loop over the service's own adapter.
    Adapter,
    Service(Kind),
}

/// A case, which is measured once in every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    pub recipients: u64,
    pub provider: Provider,
    pub sender: Sender,
}

/// The figures of a case. Figures that do not apply to a sender are empty.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub per_second: Figure,
    /// Seconds of CPU for 100,000 messages.
    pub cpu_service: Figure,
    pub cpu_database: Figure,
    pub cpu_provider: Figure,
    /// The percentage of the machine used by unrelated processes.
    pub cpu_others: Figure,
    /// The peak memory in megabytes.
    pub peak_memory: Figure,
    /// Bytes a message.
    pub stored: Figure,
    pub wal: Figure,
    pub written: Figure,
    /// Milliseconds until the first delivery.
    pub first_delivery: Figure,
}

pub type Measured = BTreeMap<Case, Figures>;

/// Measures every case once in every round. The order differs each time, so that no case always follows the heaviest
/// one.
pub async fn measure(bench: &Bench) -> Result<Measured> {
    let mut measured = Measured::new();
    let mut senders = vec![Sender::Limit, Sender::Adapter];
    senders.extend(bench.args.databases().into_iter().map(Sender::Service));
    let sizes = bench.args.sizes();
    for round in 0..bench.args.rounds.get() {
        for &recipients in &sizes {
            for provider in bench.args.providers() {
                let first = round % senders.len();
                for &sender in senders.iter().cycle().skip(first).take(senders.len()) {
                    let case = Case { recipients, provider, sender };
                    bench.says(&format!("round {}: {}", round + 1, case.name()));
                    let figures = measured.entry(case).or_default();
                    match sender {
                        Sender::Limit | Sender::Adapter => send_bare(bench, case, figures).await,
                        Sender::Service(kind) => {
                            mail(bench, case, bench.template(kind, recipients)?, figures).await
                        }
                    }
                    .map_err(|error| format!("{}: {error}", case.name()))?;
                }
            }
        }
    }
    Ok(measured)
}

impl Case {
    pub fn sender_name(&self) -> &'static str {
        match self.sender {
            Sender::Limit => "limit",
            Sender::Adapter => "adapter",
            Sender::Service(kind) => kind.name(),
        }
    }

    fn name(&self) -> String {
        let delay = self.provider.delay.as_millis();
        format!("{} messages to a provider of {delay} ms, {}", self.recipients, self.sender_name())
    }

    /// Returns the case of the limit for the same messages.
    pub fn limit(&self) -> Self {
        Self { sender: Sender::Limit, ..*self }
    }
}

impl Figures {
    /// Records the usage between two readings.
    fn note(&mut self, case: Case, before: &Spent, after: &Spent) -> Result {
        let a_hundred_thousand = |seconds: f64| seconds * 100_000.0 / case.recipients as f64;
        self.cpu_service.0.push(a_hundred_thousand(after.sender - before.sender));
        self.cpu_provider.0.push(a_hundred_thousand(after.provider - before.provider));
        if let (Some(before), Some(after)) = (before.database, after.database) {
            self.cpu_database.0.push(a_hundred_thousand(after - before));
        }
        self.cpu_others.0.push(after.others_since(before)?);
        Ok(())
    }
}

/// Sends without the service: this process is the sender.
async fn send_bare(bench: &Bench, case: Case, figures: &mut Figures) -> Result {
    let clients = Generator::new(case.recipients, SEED)?;
    let recipients: Arc<[Recipient]> =
        clients.map(|client| (client.phone_number, client.name, client.city)).collect();
    let sandbox = Sandbox::start(bench.directory(), case.provider).await?;
    let in_flight = case.provider.in_flight;
    let spent = || Spent::read(bench, std::process::id(), None, sandbox.process.pid());

    let before = spent()?;
    let began = Instant::now();
    let taken = match case.sender {
        Sender::Adapter => limit::by_adapter(&sandbox.base, recipients, in_flight).await?,
        _ => limit::by_client(&sandbox.base, recipients, in_flight).await?,
    };
    let took = began.elapsed().as_secs_f64();
    figures.note(case, &before, &spent()?)?;

    if taken != case.recipients {
        return Err(format!("the provider accepted {taken} messages").into());
    }
    agree(&sandbox.stats().await?, case.recipients)?;
    figures.per_second.0.push(case.recipients as f64 / took);
    Ok(())
}

/// Measures a mailing to all clients, from just before its POST until its counts are final.
async fn mail(bench: &Bench, case: Case, template: &Database, figures: &mut Figures) -> Result {
    let database = template.copy(bench.directory())?;
    let sandbox = Sandbox::start(bench.directory(), case.provider).await?;
    let in_flight = case.provider.in_flight;
    let service = Service::start(bench.directory(), &database.url(), &sandbox.base, in_flight).await?;
    let pid = service.process.pid();
    let spent = || Spent::read(bench, pid, Some(&database), sandbox.process.pid());

    let (bytes, wal, on_disk) = (database.bytes_before()?, database.wal()?, written(pid)?);
    let before = spent()?;
    let posted = Clock::System.now().micros();
    let mailing = service.api.mail(json!({})).await?;
    let finished = service.api.finished(&mailing, case.recipients).await?;
    figures.note(case, &before, &spent()?)?;

    figures.per_second.0.push(case.recipients as f64 * 1e6 / (finished - posted) as f64);
    match (wal, database.wal()?) {
        (Some(before), Some(after)) => figures.wal.0.push((after - before) / case.recipients as f64),
        // SQLite runs in the service's process
        _ => figures.written.0.push((written(pid)? - on_disk) / case.recipients as f64),
    }
    figures.peak_memory.0.push(peak_memory(pid)?);
    let stats = sandbox.stats().await?;
    agree(&stats, case.recipients)?;
    let first = stats.first_at.ok_or("the provider does not report the arrival of the first message")?;
    // the sandbox truncates to whole milliseconds
    figures.first_delivery.0.push((first as f64 - posted as f64 / 1000.0).max(0.0));
    service.stop().await?;
    figures.stored.0.push((database.bytes_after()? - bytes) / case.recipients as f64);
    Ok(())
}

/// Checks that each message arrived exactly once, and that nothing else arrived.
pub fn agree(provider: &Stats, sent: u64) -> Result {
    if [provider.requests, provider.received, provider.distinct, provider.by_status.ok] != [sent; 4] {
        return Err(format!("{sent} messages were sent, and the provider received {provider:?}").into());
    }
    Ok(())
}
