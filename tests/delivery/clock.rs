//! Nodes whose clocks differ use the database's time.

use std::time::Duration;

use fanfare::clock::Clock;
use serde_json::json;

use crate::delivery::bench::Bench;
use crate::support::{Database, after};

/// Five minutes in microseconds.
const FIVE_MINUTES: i64 = 300_000_000;

async fn offset(base: &str, http: &reqwest::Client) -> f64 {
    let text =
        http.get(format!("{base}/metrics")).send().await.expect("an answer").text().await.expect("metrics");
    let line =
        text.lines().find(|line| line.starts_with("fanfare_clock_offset_seconds ")).expect("the metric");
    line.rsplit(' ').next().expect("a value").parse().expect("a number")
}

/// Runs one node with the right time and one without; both send.
async fn beside(wrong: i64) {
    let service = Bench::start(Database::Postgres, &[]).await;
    let node = service.beside_by(Clock::Wrong(wrong), &[]).await;
    let ahead = offset(&node.base, &node.http).await;
    assert!((ahead - wrong as f64 / 1e6).abs() < 2.0, "it knows that it is {ahead} s ahead");
    assert!(offset(&service.base, &service.http).await.abs() < 2.0);

    let due = Clock::System.now().plus(Duration::from_secs(2));
    let one = |i: u32| {
        json!({"channel": "sms", "recipient": format!("+{}", 79_030_000_000_u64 + u64::from(i)), "content": "x",
            "scheduled_at": due.to_string(), "expires_at": after(Duration::from_secs(60))})
    };
    // posted to the wrong node, which also validates the times
    let batch = json!({"notifications": (0..500).map(one).collect::<Vec<_>>()});
    let batch = node.post("/notifications/batch", batch).await;
    let path = format!("/batches/{}", batch["batch_id"].as_str().expect("an id"));
    let counts = service
        .wait_for(&path, |batch| batch["counts"]["queued"] == 0 && batch["counts"]["sending"] == 0)
        .await;
    assert_eq!(
        (&counts["counts"]["sent"], &counts["counts"]["expired"]),
        (&json!(500), &json!(0)),
        "{counts}"
    );
    let first = service.requests().iter().map(|request| request.at_us).min().expect("a request");
    assert!(first >= due.micros(), "one was sent {} us before its time", due.micros() - first);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_is_five_minutes_ahead_sends_nothing_early_and_expires_nothing() {
    beside(FIVE_MINUTES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_is_five_minutes_behind_sends_nothing_late() {
    beside(-FIVE_MINUTES).await;
}
