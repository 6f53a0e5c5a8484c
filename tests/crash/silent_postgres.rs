//! A PostgreSQL that accepts data and does not respond: its processes are stopped, or a firewall dropped the
//! connections.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::crash::campaign::{Campaign, closed, look, mail};
use crate::process::Server;
use crate::support::api::{LOOK, PATIENCE};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::{Database, TestDb, after};

/// The time within which every response comes.
const ANSWER: Duration = Duration::from_secs(3);
/// The time within which `/ready` responds.
const READY: Duration = Duration::from_secs(1);
/// The time within which sending continues once the database can be reached.
const GOES_ON: Duration = Duration::from_secs(15);

/// Sends many requests at once. Returns the status of each. Panics if one takes too long.
async fn ask_all(server: &Server, mailing: &str) -> Vec<u16> {
    let body = json!({"text": "hello", "filter": "nobody", "ends_at": after(Duration::from_secs(600))});
    let calls = [
        server.http.get(server.url("/clients")),
        server.http.get(server.url(&format!("/mailings/{mailing}"))),
        server.http.get(server.url(&format!("/mailings/{mailing}/stats"))),
        server.http.get(server.url("/notifications")),
        server.http.post(server.url("/mailings")).json(&body),
        server.http.post(server.url("/clients")).json(&json!({"phone_number": "79031234567"})),
        server.http.post(server.url(&format!("/mailings/{mailing}/resume"))),
        server.http.post(server.url("/notifications")).json(&json!({
            "channel": "sms", "recipient": "+79031234567", "content": "hello",
            "scheduled_at": after(Duration::from_secs(300))
        })),
    ];
    let timed = calls.map(|call| async {
        let began = Instant::now();
        let answer = call.send().await.expect("an answer");
        let (status, url) = (answer.status().as_u16(), answer.url().clone());
        assert!(began.elapsed() < ANSWER, "{url} answered {status} after {:?}", began.elapsed());
        if status == 503 {
            let problem: serde_json::Value = answer.json().await.expect("JSON");
            let kind = problem["type"].as_str().expect("a type").to_owned();
            assert!(
                ["/problems/unavailable", "/problems/outcome-unknown"].contains(&kind.as_str()),
                "{url}: {problem}"
            );
        }
        status
    });
    join_all(timed).await
}

/// Returns true if it is ready. Panics if it does not respond in time.
async fn is_ready(server: &Server) -> bool {
    let began = Instant::now();
    let answer = server.http.get(format!("{}/ready", server.base)).send().await.expect("an answer");
    assert!(began.elapsed() < READY, "/ready answered after {:?}", began.elapsed());
    answer.status().is_success()
}

/// Waits until it is not ready.
async fn unready(server: &Server) {
    let began = Instant::now();
    while is_ready(server).await {
        assert!(began.elapsed() < PATIENCE, "it is ready: {}", server.process.log());
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until more than `requests` requests have been sent. Returns the time that it took.
async fn goes_on(campaign: &Campaign, requests: usize) -> Duration {
    let began = Instant::now();
    campaign.provider.received(requests + 1, async || {}).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_stopped_every_call_gets_a_response_and_after_that_sending_continues() {
    let mut postgres = Postgres::start();
    let settings = [("RATE_LIMIT_PER_CHANNEL", "200")];
    let db = TestDb::at(postgres.url.clone());
    let mut campaign = Campaign::on(db, &["--latency", "20ms"], &settings).await;
    let server = campaign.serve().await;
    let mailing = mail(&server, 2000, Duration::from_secs(600)).await;
    let mut last = 0;
    campaign.provider.received(300, async || look(&server, &mailing, &mut last).await).await;

    postgres.freeze();
    for _ in 0..3 {
        let answers = ask_all(&server, &mailing).await;
        assert!(answers.iter().all(|status| *status == 503), "{answers:?}");
    }
    unready(&server).await;
    let requests = campaign.provider.requests().len();
    postgres.thaw();

    let took = goes_on(&campaign, requests).await;
    println!("it went on {took:?} after PostgreSQL did");
    assert!(took < GOES_ON, "it went on only after {took:?}");
    let counts = closed(&server, &mailing, last).await;
    assert_eq!(counts["sent"], 2000, "{counts}");
    campaign.check(&mailing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_a_firewall_dropped_are_replaced() {
    let database = TestDb::new(Database::Postgres);
    let (proxy, through) = Proxy::before(&database.url).await;
    let settings = [("RATE_LIMIT_PER_CHANNEL", "200")];
    let mut campaign = Campaign::on(TestDb::at(through), &["--latency", "20ms"], &settings).await;
    let server = campaign.serve().await;
    let mailing = mail(&server, 3000, Duration::from_secs(600)).await;
    let mut last = 0;
    campaign.provider.received(300, async || look(&server, &mailing, &mut last).await).await;

    proxy.forget_connections();
    let (began, requests) = (Instant::now(), campaign.provider.requests().len());
    ask_all(&server, &mailing).await;
    // messages in flight and in the lanes are sent without the database: only recorded outcomes show that sending
    // continues
    let path = format!("/mailings/{mailing}");
    let sent = |answer: reqwest::Result<(u16, serde_json::Value)>| match answer {
        Ok((200, mailing)) => mailing["counts"]["sent"].as_i64(),
        _ => None,
    };
    let before = loop {
        assert!(began.elapsed() < GOES_ON, "it cannot be read: {}", server.process.log());
        if let Some(sent) = sent(server.try_call("GET", &path, None).await) {
            break sent;
        }
    };
    while sent(server.try_call("GET", &path, None).await) <= Some(before) {
        assert!(began.elapsed() < GOES_ON, "it does not go on: {}", server.process.log());
        tokio::time::sleep(LOOK).await;
    }
    println!(
        "it went on {:?} after the connections were forgotten, {requests} requests before",
        began.elapsed()
    );
    let counts = closed(&server, &mailing, last).await;
    assert_eq!(counts["sent"], 3000, "{counts}");
    campaign.check(&mailing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_process_in_the_documented_time_while_postgres_is_stopped() {
    let mut postgres = Postgres::start();
    let settings = [("RATE_LIMIT_PER_CHANNEL", "200"), ("SHUTDOWN_TIMEOUT", "2s")];
    let db = TestDb::at(postgres.url.clone());
    let mut campaign = Campaign::on(db, &["--latency", "20ms"], &settings).await;
    let mut server = campaign.serve().await;
    mail(&server, 2000, Duration::from_secs(600)).await;
    campaign.provider.received(300, async || {}).await;

    postgres.freeze();
    unready(&server).await;
    let began = Instant::now();
    server.process.terminate();
    let status = server.process.ended().await;
    println!("it ended after {:?}", began.elapsed());
    assert_eq!(status.code(), Some(0), "{}", server.process.log());
    assert!(began.elapsed() < Duration::from_secs(2 + 15), "it ended only after {:?}", began.elapsed());
}
