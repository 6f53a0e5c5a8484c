//! A spike of notifications in the middle of a mailing.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use fanfare::clock::Clock;
use fanfare::db::types::MessageId;
use fanfare::kinds::MessageStatus;
use serde_json::json;

use crate::creations::{CONNECTIONS, Spike};
use crate::database::Database;
use crate::load::Load;
use crate::machine::peak_memory;
use crate::mailings::agree;
use crate::process::{Sandbox, Service};
use crate::wire::{PLACE, Request};
use crate::{Bench, Result};

/// The number of notifications.
pub const POSTED: u64 = 100_000;
/// The share of the mailing that is sent when the spike begins.
const BEGUN: f64 = 0.02;
const LOOK: Duration = Duration::from_millis(50);
/// Notifications without progress for this long are lost.
const STUCK: Duration = Duration::from_secs(60);

pub async fn measure(bench: &Bench, template: &Database, recipients: u64, spike: &mut Spike) -> Result {
    let database = template.copy(bench.directory())?;
    let provider = bench.args.provider(Duration::ZERO);
    let sandbox = Sandbox::start_logging(bench.directory(), provider).await?;
    let service =
        Service::start(bench.directory(), &database.url(), &sandbox.base, provider.in_flight).await?;

    let mailed = Clock::System.now().micros();
    let mailing = service.api.mail(json!({})).await?;
    let begun = recipients as f64 * BEGUN;
    service.api.wait_until(&mailing, LOOK, |stats| stats.counts.sent as f64 >= begun).await?;

    let one = format!(
        r#"{{"channel":"sms","recipient":"+7903{PLACE}","content":"Your order has shipped and arrives tomorrow."}}"#
    );
    let load = Load {
        address: service.api.address().to_owned(),
        connections: CONNECTIONS,
        requests: POSTED,
        request: Request::post("/api/v1/notifications", "", &one),
        expects: 201,
    };
    let posted = Clock::System.now().micros();
    let answers = load.post().await?;
    let accepted: HashSet<MessageId> = answers.made.iter().map(|id| MessageId(*id)).collect();
    if accepted.len() as u64 != POSTED {
        return Err(format!("{POSTED} notifications were accepted under {} ids", accepted.len()).into());
    }

    let finished = service.api.finished(&mailing, recipients).await?;
    all_sent(&service, recipients + POSTED).await?;
    spike.peak_memory.0.push(peak_memory(service.process.pid())?);
    agree(&sandbox.stats().await?, recipients + POSTED)?;
    service.stop().await?;
    are_on_record(&database)?;

    let receipts: HashMap<MessageId, i64> = sandbox
        .receipts()?
        .into_iter()
        .filter_map(|receipt| Some((receipt.id.parse::<MessageId>().ok()?, receipt.at_us)))
        .filter(|(id, _)| accepted.contains(id))
        .collect();
    if receipts.len() != accepted.len() {
        return Err(format!("{} of {POSTED} notifications reached the provider", receipts.len()).into());
    }
    let last = receipts.values().max().copied().unwrap_or_default();
    // an id contains the time truncated to milliseconds
    let late = receipts.iter().map(|(id, at)| (at - id.created_at().micros()) as f64 / 1000.0);
    spike.lateness.extend(late);
    spike.arrived.0.push((last - posted) as f64 / 1e6);
    spike.accepted.0.push(answers.took);
    spike.per_second.0.push(POSTED as f64 / answers.took);
    spike.request.extend(answers.each);
    spike.refused.0.push(answers.refused as f64);
    spike.mailing.0.push((finished - mailed) as f64 / 1e6);
    Ok(())
}

/// Waits until the service has counted this number of messages as sent.
pub async fn all_sent(service: &Service, wanted: u64) -> Result {
    let (mut sent, mut moved_at) = (0.0, Instant::now());
    while sent < wanted as f64 {
        tokio::time::sleep(LOOK).await;
        let now = service.api.sent().await?;
        if now > sent {
            (sent, moved_at) = (now, Instant::now());
        }
        if moved_at.elapsed() > STUCK {
            return Err(format!("only {sent} of {wanted} messages were sent").into());
        }
    }
    Ok(())
}

/// Checks that each notification is sent, and that no work is left.
fn are_on_record(database: &Database) -> Result {
    let of = |status: MessageStatus| {
        database.count(&format!(
            "SELECT count(*) FROM notification JOIN message ON message.id = notification.message_id \
             WHERE finished_at IS NOT NULL AND status = {}",
            status.code()
        ))
    };
    let total = database.count("SELECT count(*) FROM notification")?;
    let sent = of(MessageStatus::Sent)?;
    let others = of(MessageStatus::Failed)? + of(MessageStatus::Expired)? + of(MessageStatus::Cancelled)?;
    let left = database.count("SELECT count(*) FROM due")? + database.count("SELECT count(*) FROM page")?;
    if (total, sent, others, left) != (POSTED, POSTED, 0, 0) {
        return Err(format!(
            "{POSTED} notifications were accepted; the database has {total}, {sent} sent and {others} not delivered, \
             and {left} rows of unfinished work"
        )
        .into());
    }
    Ok(())
}
