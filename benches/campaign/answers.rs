//! Latencies of the service while it sends: statistics, pauses and urgent messages.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fanfare::clock::Clock;
use serde_json::{Value, json};

use crate::api::{Api, MailingStats, text_at};
use crate::database::Database;
use crate::mailings::agree;
use crate::process::{Sandbox, Service};
use crate::{Bench, Result};

/// Clients with a unique tag, for mailings to a single client.
const SINGLES: u64 = 600;
/// The clients among them whose mailings start at a set time, while nothing else is sent.
const SCHEDULED: u64 = 40;
/// The time until the first scheduled mailing starts, and the time between two.
const AHEAD: Duration = Duration::from_millis(1500);
const APART: Duration = Duration::from_millis(50);
/// The time between two urgent messages, and between two reads of the statistics.
const URGENT_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The share of the large mailing during which it is probed. The rest is for the pauses.
const PROBED: f64 = 0.6;
const PAUSES: usize = 3;
/// The time without a request after which a pause counts as effective.
const SILENCE: Duration = Duration::from_millis(200);
/// The time from a resume to the next pause.
const GOING_ON: Duration = Duration::from_millis(50);

/// Latencies in milliseconds, of all rounds together.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// From `starts_at` to the arrival at the provider, while nothing else is sent.
    pub scheduled: Vec<f64>,
    /// From the POST of a high-priority mailing to the arrival at the provider, in the middle of a large mailing.
    pub urgent: Vec<f64>,
    /// `GET /mailings/{id}/stats` in the middle of a large mailing.
    pub statistics: Vec<f64>,
    /// `POST /mailings/{id}/pause`.
    pub pause: Vec<f64>,
    /// From that POST to the arrival of the last message at the provider.
    pub pause_holds: Vec<f64>,
}

/// A mailing to one client, and the time from which its lateness is measured, in microseconds since the epoch.
struct Probe {
    mailing: String,
    from: i64,
}

pub async fn measure(bench: &Bench, template: &Database, recipients: u64, answers: &mut Answers) -> Result {
    let database = template.copy(bench.directory())?;
    let provider = bench.args.provider(Duration::ZERO);
    let sandbox = Sandbox::start_logging(bench.directory(), provider).await?;
    let service =
        Service::start(bench.directory(), &database.url(), &sandbox.base, provider.in_flight).await?;
    let api = &service.api;
    api.import(singles().into(), SINGLES).await?;

    let scheduled = schedule(api).await?;
    for probe in &scheduled {
        api.finished(&probe.mailing, 1).await?;
    }
    let mailing = api.mail(json!({})).await?;
    let urgent = probe(api, &mailing, &mut answers.statistics).await?;
    pause(api, &sandbox, &mailing, answers).await?;
    api.finished(&mailing, recipients + SINGLES).await?;
    for probe in &urgent {
        api.finished(&probe.mailing, 1).await?;
    }

    agree(&sandbox.stats().await?, recipients + SINGLES + (scheduled.len() + urgent.len()) as u64)?;
    let receipts: HashMap<String, i64> = sandbox.receipts()?.into_iter().map(|r| (r.id, r.at_us)).collect();
    answers.scheduled.extend(lateness(api, &scheduled, &receipts).await?);
    answers.urgent.extend(lateness(api, &urgent, &receipts).await?);
    service.stop().await
}

fn singles() -> String {
    let rows = (0..SINGLES).map(|n| format!("{},single-{n},Anna,Moscow\n", 70_000_000_000 + n));
    format!("phone_number,tag,name,city\n{}", rows.collect::<String>())
}

fn to_single(number: u64) -> Value {
    json!({"filter": {"tag": [format!("single-{number}")]}, "priority": "high"})
}

/// Creates mailings to one client each that start one after the other in the near future.
async fn schedule(api: &Api) -> Result<Vec<Probe>> {
    let first = Clock::System.now().plus(AHEAD);
    let mut probes = Vec::new();
    for number in 0..SCHEDULED {
        let starts_at = first.plus(APART * u32::try_from(number)?);
        let mut fields = to_single(number);
        if let Value::Object(fields) = &mut fields {
            fields.insert("starts_at".to_owned(), starts_at.to_string().into());
        }
        probes.push(Probe { mailing: api.mail(fields).await?, from: starts_at.micros() });
    }
    Ok(probes)
}

/// Sends urgent messages during a mailing and reads its statistics concurrently, until most of it is sent.
async fn probe(api: &Api, mailing: &str, statistics: &mut Vec<f64>) -> Result<Vec<Probe>> {
    let (done, is_done) = tokio::sync::watch::channel(false);
    let looking = async {
        let mut end = false;
        while !end {
            let began = Instant::now();
            let seen = api.stats(mailing).await;
            statistics.push(milliseconds(began.elapsed()));
            end = seen.as_ref().is_ok_and(is_probed) || seen.is_err();
            done.send_replace(end);
            seen?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok::<_, crate::Failure>(())
    };
    let sending = async {
        let mut probes = Vec::new();
        for number in SCHEDULED..SINGLES {
            if *is_done.borrow() {
                break;
            }
            let from = Clock::System.now().micros();
            probes.push(Probe { mailing: api.mail(to_single(number)).await?, from });
            tokio::time::sleep(URGENT_EVERY).await;
        }
        Ok::<_, crate::Failure>(probes)
    };
    let (looked, probes) = tokio::join!(looking, sending);
    looked?;
    probes
}

fn is_probed(stats: &MailingStats) -> bool {
    stats.counts.sent as f64 >= stats.counts.total as f64 * PROBED || stats.finished_at.is_some()
}

/// Pauses and resumes a mailing a few times. A small mailing may finish before the last pause.
async fn pause(api: &Api, sandbox: &Sandbox, mailing: &str, answers: &mut Answers) -> Result {
    for _ in 0..PAUSES {
        if api.stats(mailing).await?.counts.queued == 0 {
            break;
        }
        let (posted, began) = (Clock::System.now().micros(), Instant::now());
        api.post(&format!("/mailings/{mailing}/pause"), &json!({})).await?;
        answers.pause.push(milliseconds(began.elapsed()));
        let last = sandbox.quiet(SILENCE).await?.last_at.unwrap_or_default();
        answers.pause_holds.push((last as f64 - posted as f64 / 1000.0).max(0.0));
        api.post(&format!("/mailings/{mailing}/resume"), &json!({})).await?;
        tokio::time::sleep(GOING_ON).await;
    }
    Ok(())
}

/// Returns the milliseconds from each probe's start time to the arrival of its message.
async fn lateness(api: &Api, probes: &[Probe], receipts: &HashMap<String, i64>) -> Result<Vec<f64>> {
    let mut late = Vec::new();
    for probe in probes {
        let page: Value = api.get(&format!("/mailings/{}/messages?limit=1", probe.mailing)).await?;
        let id = text_at(page.pointer("/items/0").unwrap_or(&Value::Null), "id")?;
        let at = receipts.get(&id).ok_or("the provider's log lacks a message")?;
        late.push((at - probe.from) as f64 / 1000.0);
    }
    Ok(late)
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
