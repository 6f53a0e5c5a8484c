//! The cost of a kill -9 in the middle of a mailing.

use std::collections::HashSet;
use std::time::Duration;

use fanfare::clock::Clock;
use serde_json::json;

use crate::database::Database;
use crate::process::{Sandbox, Service};
use crate::statistics::Figure;
use crate::{Bench, Result};

/// The share of the mailing that is sent when the service is killed.
const KILLED_AT: f64 = 0.3;
const LOOK: Duration = Duration::from_millis(5);
/// The time within which the last requests of the killed process arrive.
const SILENCE: Duration = Duration::from_millis(200);
/// The default of `DELIVERY_RECORD_BATCH`. Two groups of outcomes and the requests in flight may be repeated.
const RECORD_BATCH: usize = 500;

/// The figures of a restart, with one value for each round.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// Milliseconds from the start of the process to the first message at the provider.
    pub first_delivery: Figure,
    /// Seconds from the start of the process until the mailing's counts are final.
    pub finished: Figure,
    /// Messages that the provider received twice.
    pub repeated: Figure,
}

pub async fn measure(bench: &Bench, template: &Database, recipients: u64, recovery: &mut Recovery) -> Result {
    let database = template.copy(bench.directory())?;
    let provider = bench.args.provider(Duration::ZERO);
    let sandbox = Sandbox::start_logging(bench.directory(), provider).await?;
    let start = || async {
        Service::start(bench.directory(), &database.url(), &sandbox.base, provider.in_flight).await
    };

    let mut service = start().await?;
    let mailing = service.api.mail(json!({})).await?;
    let killed_at = recipients as f64 * KILLED_AT;
    service.api.wait_until(&mailing, LOOK, |stats| stats.counts.sent as f64 >= killed_at).await?;
    service.process.kill()?;
    sandbox.quiet(SILENCE).await?;

    let restarted = Clock::System.now().micros();
    let service = start().await?;
    let finished = service.api.finished(&mailing, recipients).await?;
    service.stop().await?;

    let receipts = sandbox.receipts()?;
    let first = receipts.iter().map(|receipt| receipt.at_us).filter(|at| *at >= restarted).min();
    let first = first.ok_or("the mailing finished before the service was killed: measure more recipients")?;
    let distinct = receipts.iter().map(|receipt| &receipt.id).collect::<HashSet<_>>().len();
    let repeated = receipts.len() - distinct;
    if distinct as u64 != recipients || repeated > provider.in_flight + 2 * RECORD_BATCH {
        return Err(
            format!("after kill -9 the provider has {distinct} messages, {repeated} of them twice").into()
        );
    }
    recovery.first_delivery.0.push((first - restarted) as f64 / 1000.0);
    recovery.finished.0.push((finished - restarted) as f64 / 1e6);
    recovery.repeated.0.push(repeated as f64);
    Ok(())
}
