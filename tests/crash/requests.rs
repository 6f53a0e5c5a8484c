//! Scheduled requests across kills: each is sent at its time, once, and its result is reported.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use fanfare::channels::webhook::Secret;
use fanfare::clock::Clock;
use fanfare::db::types::Timestamp;
use serde_json::{Value, json};

use crate::crash::campaign::Campaign;
use crate::process::Server;
use crate::support::api::{LOOK, Progress};
use crate::support::checker::Limits;
use crate::support::listener::{Arrival, Listener};

/// The number of concurrent callers.
const CALLERS: usize = 16;
const KILLS: usize = 2;
/// The number of attempts in flight, and of outcomes in a group: a kill may repeat few requests compared with all.
const WORKERS: usize = 32;
const RECORD_BATCH: usize = 20;
/// The time until the first is due.
const LEAD: Duration = Duration::from_secs(2);
/// The time from one to the next: ten thousand in a minute.
const STEP: Duration = Duration::from_millis(6);

/// Returns the number of requests. `make crash-test` sets ten thousand.
fn requests() -> usize {
    std::env::var("FANFARE_TEST_REQUESTS").map_or(1500, |text| text.parse().expect("a number"))
}

/// The responses to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The response is 200.
    Sent,
    /// The first response is 503, and the second is 200.
    SentLater,
    /// The response is 404, for which its retry policy has no retry.
    Failed,
}

fn fate(number: usize) -> Fate {
    match number % 10 {
        3 => Fate::SentLater,
        7 => Fate::Failed,
        _ => Fate::Sent,
    }
}

/// Returns true if the first attempt to report its result fails.
fn is_reported_later(number: usize) -> bool {
    number.is_multiple_of(7)
}

/// Returns the number of the request that arrived, or of the request whose result is reported.
fn number(arrival: &Arrival, path: &str) -> Option<usize> {
    arrival.path.strip_prefix(path)?.parse().ok()
}

fn listener() -> Listener {
    let answer = |arrival: &Arrival, before: usize| match number(arrival, "/run/").map(fate) {
        Some(Fate::SentLater) if before == 0 => 503_u16,
        Some(Fate::Failed) => 404,
        Some(_) => 200,
        None if before == 0 && number(arrival, "/report/").is_some_and(is_reported_later) => 500,
        None => 200,
    };
    Listener::start(answer).expect("a listener")
}

/// An accepted request: its id and its time.
type Accepted = (String, Timestamp);

async fn ask(server: &Server, base: &str, number: usize, at: Timestamp) -> Accepted {
    let body = json!({
        "execute_at": at.to_string(),
        "request": {"url": format!("{base}/run/{number}"), "timeout": 30, "body": {"number": number}},
        "retry": {"on": ["5xx", "timeout", "connection"], "delays": [1, 1, 1]},
        "notify": {
            "request": {"url": format!("{base}/report/{number}"), "timeout": 30},
            "retry": {"delays": [1, 1, 1]},
        },
    });
    let answer = server.post("/requests", body).await;
    (answer["id"].as_str().expect("an id").to_owned(), at)
}

/// Schedules all requests, one after the other. Returns the accepted ones in the order of their numbers.
async fn ask_all(server: &Server, base: &str, count: usize) -> Vec<Accepted> {
    let first = Clock::System.now().plus(LEAD);
    let at = |number: usize| first.plus(STEP * u32::try_from(number).expect("a small number"));
    let caller = async |caller: usize| {
        let mut accepted = Vec::new();
        for number in (caller..count).step_by(CALLERS) {
            accepted.push((number, ask(server, base, number, at(number)).await));
        }
        accepted
    };
    let callers = futures_util::future::join_all((0..CALLERS).map(caller)).await;
    let accepted: BTreeMap<usize, Accepted> = callers.into_iter().flatten().collect();
    accepted.into_values().collect()
}

/// Waits until `count` requests have arrived, including repeated ones.
async fn arrived(listener: &Listener, path: &str, count: usize) {
    let mut progress = Progress::begin();
    while listener.count(path) < count {
        assert!(progress.goes_on(listener.count(path)), "only {} of {count} at {path}", listener.count(path));
        tokio::time::sleep(LOOK).await;
    }
}

/// Lists all requests, by their ids.
async fn listed(server: &Server) -> HashMap<String, Value> {
    let (mut found, mut cursor) = (HashMap::new(), String::new());
    loop {
        let list = server.get(&format!("/requests?limit=1000{cursor}")).await;
        for item in list["items"].as_array().expect("items") {
            let before = found.insert(item["id"].as_str().expect("an id").to_owned(), item.clone());
            assert_eq!(before, None, "a list contains each request once");
        }
        match list["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// Groups arrivals by number.
fn by_number(arrivals: &[Arrival], path: &str) -> HashMap<usize, Vec<Arrival>> {
    let mut found: HashMap<usize, Vec<Arrival>> = HashMap::new();
    for arrival in arrivals {
        if let Some(number) = number(arrival, path) {
            found.entry(number).or_default().push(arrival.clone());
        }
    }
    found
}

/// Compares the arrivals of a request with the contract. Returns the number of repeated attempts.
fn is_run(number: usize, (id, at): &Accepted, runs: &[Arrival]) -> usize {
    let wanted = if fate(number) == Fate::SentLater { 2 } else { 1 };
    assert!(runs.len() >= wanted, "request {number} arrived {} times", runs.len());
    for run in runs {
        assert_eq!(run.header("idempotency-key"), id, "each attempt has the key of the first");
        assert_eq!(run.json(), json!({"number": number}));
        assert!(run.at_us >= at.micros(), "request {number} was run before its time");
    }
    runs.len() - wanted
}

/// Compares the arrivals of its report with the contract. Returns the number of repeated reports.
fn is_reported(number: usize, (id, _): &Accepted, reports: &[Arrival]) -> usize {
    let wanted = if is_reported_later(number) { 2 } else { 1 };
    assert!(reports.len() >= wanted, "the report of request {number} arrived {} times", reports.len());
    let (status, code) = if fate(number) == Fate::Failed { ("failed", 404) } else { ("sent", 200) };
    let keys: HashSet<&str> = reports.iter().map(|report| report.header("idempotency-key")).collect();
    assert!(keys.len() == 1 && !keys.contains("") && !keys.contains(id.as_str()), "{number}: {keys:?}");
    for report in reports {
        let told = report.json();
        assert_eq!((&told["id"], &told["status"]), (&json!(id), &json!(status)), "{told}");
        assert_eq!(told["response"]["status"], code, "{told}");
        assert!(keys.contains(report.header("webhook-id")), "it is signed: {:?}", report.headers);
    }
    reports.len() - wanted
}

crate::on_each_database! {
    async fn kills_lose_no_request_and_no_report(kind: Database) {
        let (count, listener) = (requests(), listener());
        let (workers, record_batch) = (WORKERS.to_string(), RECORD_BATCH.to_string());
        let secret = Secret::generate().expect("a secret");
        let settings = [
            ("EGRESS_ALLOW", "127.0.0.1"), ("REQUEST_WORKERS", workers.as_str()), ("DELIVERY_PAGE_SIZE", "50"),
            ("DELIVERY_RECORD_BATCH", record_batch.as_str()), ("WEBHOOK_SECRET", secret.expose()),
        ];
        let mut campaign = Campaign::new(kind, &[], &settings).await;
        let mut server = campaign.serve().await;
        let accepted = ask_all(&server, &listener.base, count).await;
        for kill in 1..=KILLS {
            arrived(&listener, "/run/", kill * count / (KILLS + 1)).await;
            campaign.kill(&mut server.process);
            server = campaign.serve().await;
        }
        campaign.all_final(&server, "/requests").await;

        let arrivals = listener.arrivals();
        let (mut runs, mut reports) = (by_number(&arrivals, "/run/"), by_number(&arrivals, "/report/"));
        let (mut repeated, mut reported_again) = (0, 0);
        for (number, accepted) in accepted.iter().enumerate() {
            repeated += is_run(number, accepted, &runs.remove(&number).unwrap_or_default());
            reported_again += is_reported(number, accepted, &reports.remove(&number).unwrap_or_default());
        }
        assert!(runs.is_empty() && reports.is_empty(), "only accepted requests arrived");

        let listed = listed(&server).await;
        let ids: HashSet<&String> = accepted.iter().map(|(id, _)| id).collect();
        assert_eq!((ids.len(), listed.keys().collect::<HashSet<_>>() == ids), (count, true), "the accepted ones are listed");
        for (number, (id, _)) in accepted.iter().enumerate() {
            let status = if fate(number) == Fate::Failed { "failed" } else { "sent" };
            assert_eq!(listed[id]["status"], status, "{}", listed[id]);
        }

        let at_stake = campaign.deaths() * Limits::at_stake(WORKERS, RECORD_BATCH);
        println!("{count} requests, {} deaths, {repeated} run again, {reported_again} reported again", campaign.deaths());
        assert!(repeated + reported_again <= at_stake, "where {at_stake} may be");
    }
}
