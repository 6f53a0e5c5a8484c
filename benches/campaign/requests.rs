//! Scheduled requests: their lateness, the cost of a kill -9, and the report of each result.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare::clock::Clock;
use fanfare::db::types::Timestamp;
use fanfare::kinds::MessageStatus;
use serde_json::{Value, json};

use crate::args::Kind;
use crate::database::Database;
use crate::ingest::create_all;
use crate::listener::{Arrival, Listener};
use crate::machine::peak_memory;
use crate::process::Service;
use crate::schedules::{Schedule, Scheduled, Schedules};
use crate::{Bench, Result};

/// The time in which all requests must be accepted. Otherwise the run fails, because late requests distort the figures.
const LEAD: Duration = Duration::from_secs(60);
/// The same for requests at one moment, which are fewer.
const SHORT_LEAD: Duration = Duration::from_secs(20);
/// The time over which the other requests are spread.
const MINUTE: Duration = Duration::from_secs(60);
/// The share of the requests that has arrived when the service is killed.
const KILLED_AT: f64 = 0.5;
const LOOK: Duration = Duration::from_millis(20);
/// Requests without progress for this long are lost.
const STUCK: Duration = Duration::from_secs(60);
/// The most requests that a kill may repeat, with the defaults: two groups of outcomes (`DELIVERY_RECORD_BATCH`) and
/// the requests in flight (`REQUEST_WORKERS`).
const AT_STAKE: usize = 256 + 2 * 500;

/// Measures the requests at one moment in each round, and the others only in the first round.
pub async fn measure(bench: &Bench, kind: Kind, round: usize, schedules: &mut Schedules) -> Result {
    let moment = schedules.entry((kind, Schedule::Moment)).or_default();
    run(bench, kind, Schedule::Moment, moment).await?;
    if round == 1 {
        run(bench, kind, Schedule::Minute, schedules.entry((kind, Schedule::Minute)).or_default()).await?;
    }
    Ok(())
}

async fn run(bench: &Bench, kind: Kind, schedule: Schedule, scheduled: &mut Scheduled) -> Result {
    let database = bench.empty_database(kind)?;
    let listener = Listener::start(|_, _| 200_u16)?;
    let start = async || {
        let env = [("EGRESS_ALLOW", "127.0.0.1")];
        Service::start_with(bench.directory(), &database.url(), &listener.base, &env).await
    };
    let mut service = start().await?;
    let lead = if schedule == Schedule::Moment { SHORT_LEAD } else { LEAD };
    let first = Clock::System.now().plus(lead);
    let due = times(schedule, first);
    let bodies: Arc<[Value]> = due.iter().enumerate().map(|(n, at)| body(&listener.base, n, *at)).collect();
    let began = Instant::now();
    create_all(&service.api, "/requests", bodies).await?;
    scheduled.per_second.0.push(due.len() as f64 / began.elapsed().as_secs_f64());
    if Clock::System.now() >= first {
        return Err(format!("{} requests were not accepted within {lead:?}", due.len()).into());
    }

    let (mut peak, mut killed_at) = (0.0, None);
    if schedule == Schedule::Minute {
        arrived(&listener, "/run/", (due.len() as f64 * KILLED_AT) as usize).await?;
        peak = peak_memory(service.process.pid())?;
        service.process.kill()?;
        killed_at = Some(Clock::System.now().micros());
        service = start().await?;
    }
    arrived(&listener, "/run/", due.len()).await?;
    arrived(&listener, "/report/", due.len()).await?;
    scheduled.peak_memory.0.push(peak_memory(service.process.pid())?.max(peak));
    service.stop().await?;

    let arrivals = listener.arrivals();
    let (runs, reports) = (firsts(&arrivals, "/run/"), firsts(&arrivals, "/report/"));
    is_on_record(&database, (runs.len(), reports.len()), due.len())?;
    let repeated = arrivals.len() - runs.len() - reports.len();
    if repeated > if killed_at.is_some() { AT_STAKE } else { 0 } {
        return Err(format!("{repeated} requests and results arrived twice").into());
    }
    scheduled.repeated.0.push(repeated as f64);
    for (number, at) in due.iter().enumerate() {
        let (Some(run), Some(report)) = (runs.get(&number), reports.get(&number)) else { continue };
        scheduled.lateness.push((run - at.micros()) as f64 / 1000.0);
        scheduled.result.push((report - run) as f64 / 1000.0);
    }
    if let Some(killed_at) = killed_at {
        let next = arrivals.iter().map(|arrival| arrival.at_us).filter(|at| *at > killed_at).min();
        scheduled.away.0.extend(next.map(|next| (next - killed_at) as f64 / 1e6));
    }
    Ok(())
}

/// Returns the times at which the requests are due.
fn times(schedule: Schedule, first: Timestamp) -> Vec<Timestamp> {
    let requests = schedule.requests();
    let step = match schedule {
        Schedule::Moment => Duration::ZERO,
        Schedule::Minute => MINUTE / requests as u32,
    };
    (0..requests).map(|number| first.plus(step * number as u32)).collect()
}

fn body(base: &str, number: usize, at: Timestamp) -> Value {
    json!({
        "execute_at": at.to_string(),
        "request": {
            "url": format!("{base}/run/{number}"),
            "verb": "POST",
            "timeout": 30,
            "header": {"x-source": "bench"},
            "body": {"order": number, "text": "Your order has shipped and arrives tomorrow."},
        },
        "notify": {"request": {"url": format!("{base}/report/{number}"), "timeout": 30}},
    })
}

/// Returns the time of the first arrival of each request, by its number.
fn firsts(arrivals: &[Arrival], path: &str) -> HashMap<usize, i64> {
    let mut firsts = HashMap::new();
    for arrival in arrivals {
        if let Some(number) = arrival.path.strip_prefix(path).and_then(|number| number.parse().ok()) {
            firsts.entry(number).or_insert(arrival.at_us);
        }
    }
    firsts
}

/// Waits until this number of different requests has arrived.
async fn arrived(listener: &Listener, path: &str, wanted: usize) -> Result {
    let (mut seen, mut moved_at) = (0, Instant::now());
    loop {
        // duplicates are only subtracted when the total is large enough
        let mut now = listener.count(path);
        if now >= wanted {
            now = firsts(&listener.arrivals(), path).len();
        }
        if now >= wanted {
            return Ok(());
        }
        if now > seen {
            (seen, moved_at) = (now, Instant::now());
        }
        if moved_at.elapsed() > LEAD + STUCK {
            return Err(format!("only {now} of {wanted} requests arrived at {path}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Checks that each request and its report is stored once and sent, and that no work is left.
fn is_on_record(database: &Database, arrived: (usize, usize), requests: usize) -> Result {
    let of = |kind: i16| {
        database.count(&format!(
            "SELECT count(*) FROM request JOIN message ON message.id = request.message_id \
             WHERE finished_at IS NOT NULL AND status = {} AND kind = {kind}",
            MessageStatus::Sent.code()
        ))
    };
    // the requests, and their reports
    let (single, reports) = (of(1)?, of(3)?);
    let total = database.count("SELECT count(*) FROM request")?;
    let left = database.count("SELECT count(*) FROM due")? + database.count("SELECT count(*) FROM page")?;
    let wanted = requests as u64;
    if (single, reports, total, left) != (wanted, wanted, 2 * wanted, 0) || arrived != (requests, requests) {
        return Err(format!(
            "{requests} requests were accepted, {arrived:?} and their reports arrived; the database has {total}, of which \
             {single} and {reports} reports are sent, and {left} rows of unfinished work"
        )
        .into());
    }
    Ok(())
}
