//! PostgreSQL crashes during a running mailing.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::crash::campaign::{Campaign, closed, look, mail};
use crate::process::Server;
use crate::support::api::{LOOK, PATIENCE};
use crate::support::postgres::Postgres;
use crate::support::{TestDb, after};

/// The time within which sending continues.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_of_postgres_the_mailing_continues_by_itself() {
    let mut postgres = Postgres::start();
    let settings = [("RATE_LIMIT_PER_CHANNEL", "400")];
    let db = TestDb::at(postgres.url.clone());
    let mut campaign = Campaign::on(db, &["--latency", "20ms"], &settings).await;
    let server = campaign.serve().await;
    let mailing = mail(&server, 4000, Duration::from_secs(600)).await;
    let mut last = 0;
    campaign.provider.received(500, async || look(&server, &mailing, &mut last).await).await;

    postgres.crash();
    all_say_unavailable(&server, &mailing).await;
    let (requests, sent) = (campaign.provider.requests().len(), last);
    postgres.start_again();

    let back = Instant::now();
    let path = format!("/mailings/{mailing}");
    let goes_on = async || match server.try_call("GET", &path, None).await {
        Ok((200, mailing)) => mailing["counts"]["sent"].as_i64() > Some(sent),
        _ => false,
    };
    campaign.provider.received(requests + 1, async || {}).await;
    while !goes_on().await {
        assert!(back.elapsed() < PATIENCE, "it does not go on: {}", server.process.log());
        tokio::time::sleep(LOOK).await;
    }
    println!("it went on {:?} after PostgreSQL was back", back.elapsed());
    assert!(back.elapsed() < SOON, "it went on only after {:?}", back.elapsed());
    let counts = closed(&server, &mailing, last).await;
    assert_eq!(counts["sent"], 4000, "{counts}");
    // the service did not crash: the outcomes in memory are recorded, and no message is repeated
    let report = campaign.check(&mailing).await;
    assert_eq!((report.requests, report.repeated), (4000, 0), "{report}");
}

/// Asserts that reading, writing and importing return 503.
async fn all_say_unavailable(server: &Server, mailing: &str) {
    let body = json!({"text": "hello", "filter": "vip", "ends_at": after(Duration::from_secs(600))});
    let calls = [
        server.http.get(server.url("/clients")),
        server.http.get(server.url(&format!("/mailings/{mailing}/stats"))),
        server.http.post(server.url("/mailings")).json(&body),
        server.http.post(server.url("/clients")).json(&json!({"phone_number": "79031234567"})),
        server.http.post(server.url(&format!("/mailings/{mailing}/pause"))),
        server
            .http
            .post(server.url("/clients/import"))
            .header("content-type", "text/csv")
            .body("phone_number\n79031234567\n"),
    ];
    for answer in join_all(calls.map(reqwest::RequestBuilder::send)).await {
        let answer = answer.expect("an answer");
        let (status, url) = (answer.status().as_u16(), answer.url().clone());
        let kind = answer.headers().get("content-type").cloned().expect("a content type");
        let problem: serde_json::Value = answer.json().await.expect("JSON");
        assert_eq!(status, 503, "{url}: {problem}");
        assert_eq!(kind, "application/problem+json", "{url}: {problem}");
        assert_eq!(problem["type"], "/problems/unavailable", "{url}: {problem}");
    }
}
