//! Whole mailings on each database, and the limit beside them.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare::clock::Clock;
use fanfare::demo::generator::Generator;
use fanfare::sandbox::Stats;
use serde_json::json;

use crate::args::{Kind, Provider};
use crate::database::{Database, SEED};
use crate::limit::{self, Recipient};
use crate::machine::peak_memory;
use crate::process::{Sandbox, Service};
use crate::statistics::Figure;
use crate::{Bench, Result};

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    Limit,
    Service(Kind),
}

/// What is measured once in every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    pub recipients: u64,
    pub provider: Provider,
    pub sender: Sender,
}

/// The figures of a case. What a sender does not have is empty.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub per_second: Figure,
    /// Seconds of CPU for 100,000 messages.
    pub cpu_service: Figure,
    pub cpu_database: Figure,
    pub cpu_provider: Figure,
    /// Megabytes.
    pub peak_memory: Figure,
    /// Bytes a message.
    pub stored: Figure,
    pub wal: Figure,
    /// Milliseconds.
    pub first_delivery: Figure,
}

pub type Measured = BTreeMap<Case, Figures>;

/// Measures every case once in every round, in another order each time, so that none is always the one that comes
/// after the heaviest.
pub async fn measure(bench: &Bench) -> Result<Measured> {
    let mut measured = Measured::new();
    let mut senders = vec![Sender::Limit];
    senders.extend(bench.args.databases.iter().map(|kind| Sender::Service(*kind)));
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
                        Sender::Limit => send_bare(bench, case, figures).await,
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
            Sender::Service(kind) => kind.name(),
        }
    }

    fn name(&self) -> String {
        let delay = self.provider.delay.as_millis();
        format!("{} messages to a provider of {delay} ms, {}", self.recipients, self.sender_name())
    }

    /// The limit of the same messages.
    pub fn limit(&self) -> Self {
        Self { sender: Sender::Limit, ..*self }
    }

    fn per_hundred_thousand(&self, seconds: f64) -> f64 {
        seconds * 100_000.0 / self.recipients as f64
    }
}

/// The limit: this process is the sender.
async fn send_bare(bench: &Bench, case: Case, figures: &mut Figures) -> Result {
    let clients = Generator::new(case.recipients, SEED)?;
    let recipients: Arc<[Recipient]> =
        clients.map(|client| (client.phone_number, client.name, client.city)).collect();
    let sandbox = Sandbox::start(bench.directory(), case.provider).await?;
    let client = fanfare::egress::provider_client()?;
    let myself = std::process::id();

    let cpu = (bench.cpu.of(myself)?, bench.cpu.of(sandbox.process.pid())?);
    let began = Clock::System.now();
    let taken = limit::send_all(client, &sandbox.base, recipients, case.provider.in_flight).await?;
    let took = Clock::System.now().since(began).as_secs_f64();
    let used = (bench.cpu.of(myself)? - cpu.0, bench.cpu.of(sandbox.process.pid())? - cpu.1);

    if taken != case.recipients {
        return Err(format!("the provider took {taken} messages").into());
    }
    agree(&sandbox.stats().await?, case.recipients)?;
    figures.per_second.0.push(case.recipients as f64 / took);
    figures.cpu_service.0.push(case.per_hundred_thousand(used.0));
    figures.cpu_provider.0.push(case.per_hundred_thousand(used.1));
    Ok(())
}

/// A mailing to everyone, from just before it is posted until its books are closed.
async fn mail(bench: &Bench, case: Case, template: &Database, figures: &mut Figures) -> Result {
    let database = template.copy(bench.directory())?;
    let sandbox = Sandbox::start(bench.directory(), case.provider).await?;
    let in_flight = case.provider.in_flight;
    let service = Service::start(bench.directory(), &database.url(), &sandbox.base, in_flight).await?;
    let (pid, provider) = (service.process.pid(), sandbox.process.pid());

    let (bytes, wal) = (database.bytes_before()?, database.wal()?);
    let cpu = (bench.cpu.of(pid)?, database.cpu(&bench.cpu)?, bench.cpu.of(provider)?);
    let posted = Clock::System.now().micros();
    let mailing = service.api.mail(json!({})).await?;
    let finished = service.api.finished(&mailing, case.recipients).await?;
    let used = bench.cpu.of(pid)? - cpu.0;
    if let (Some(before), Some(after)) = (cpu.1, database.cpu(&bench.cpu)?) {
        figures.cpu_database.0.push(case.per_hundred_thousand(after - before));
    }
    figures.cpu_service.0.push(case.per_hundred_thousand(used));
    figures.cpu_provider.0.push(case.per_hundred_thousand(bench.cpu.of(provider)? - cpu.2));
    figures.per_second.0.push(case.recipients as f64 * 1e6 / (finished - posted) as f64);

    if let (Some(before), Some(after)) = (wal, database.wal()?) {
        figures.wal.0.push((after - before) / case.recipients as f64);
    }
    figures.peak_memory.0.push(peak_memory(pid)?);
    let stats = sandbox.stats().await?;
    agree(&stats, case.recipients)?;
    let first = stats.first_at.ok_or("the provider does not say when the first message came")?;
    // the sandbox counts whole milliseconds, cut off
    figures.first_delivery.0.push((first as f64 - posted as f64 / 1000.0).max(0.0));
    service.stop().await?;
    figures.stored.0.push((database.bytes_after()? - bytes) / case.recipients as f64);
    Ok(())
}

/// Sees to it that each message arrived exactly once, and nothing else.
pub fn agree(provider: &Stats, sent: u64) -> Result {
    if [provider.requests, provider.received, provider.distinct, provider.by_status.ok] != [sent; 4] {
        return Err(format!("{sent} messages were sent, and the provider received {provider:?}").into());
    }
    Ok(())
}
