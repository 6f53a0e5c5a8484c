//! Cancels messages without an attempt, wherever they wait.

use std::time::Duration;

use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::delivery::bench::Bench;
use crate::support::{Database, Node};

/// A latency within which a message is neither retried nor timed out.
const SLOW: Duration = Duration::from_millis(2500);

/// Posts a batch of `count` text messages. Returns its path.
async fn batch(bench: &Bench, count: u32) -> String {
    let one = |n: u32| json!({"channel": "sms", "recipient": format!("7900000{n:04}"), "content": "x"});
    let body = json!({"notifications": (0..count).map(one).collect::<Vec<_>>()});
    let made = bench.post("/notifications/batch", body).await;
    format!("/batches/{}", made["batch_id"].as_str().expect("an id"))
}

/// Posts one text message. Returns its path.
async fn one(bench: &Bench) -> String {
    let made = bench
        .post("/notifications", json!({"channel": "sms", "recipient": "79000000000", "content": "x"}))
        .await;
    format!("/notifications/{}", made["id"].as_str().expect("an id"))
}

fn count(batch: &Value, state: &str) -> usize {
    usize::try_from(batch["counts"][state].as_u64().unwrap_or_else(|| panic!("{state} of {batch}")))
        .expect("a count")
}

/// Asserts that after the response to a cancellation no attempt of the batch begins: attempts in flight end, and all
/// other messages are cancelled.
async fn nothing_begins(bench: &Bench, path: &str, answered: &Value, total: usize) {
    let begun = count(answered, "sent") + count(answered, "sending");
    assert_eq!(count(answered, "queued"), 0, "{answered}");
    assert!(begun < total / 2, "it was cancelled in the middle: {answered}");
    let ended = bench.wait_for(path, |seen| count(seen, "sending") == 0).await;
    assert_eq!(count(&ended, "sent") + count(&ended, "cancelled"), total, "{ended}");
    assert!(count(&ended, "sent") <= begun, "{ended} after {answered}");
    assert_eq!(bench.requests().len(), count(&ended, "sent"), "{ended}");
}

async fn cancelled_at(node: &Node, path: &str) -> Value {
    let (status, answered) = node.call("DELETE", path, None).await;
    assert_eq!(status, 200, "{answered}");
    answered
}

crate::on_each_database! {
    async fn a_batch_is_cancelled_also_in_the_lanes(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "100")]).await;
        let path = batch(&bench, 1000).await;
        bench.received(20).await;
        let (status, answered) = bench.call("DELETE", &path, None).await;
        assert_eq!(status, 200, "{answered}");
        nothing_begins(&bench, &path, &answered, 1000).await;
        let (status, again) = bench.call("DELETE", &path, None).await;
        assert_eq!((status, count(&again, "sending")), (200, 0), "once more changes nothing: {again}");
    }
}

crate::on_each_database! {
    async fn messages_in_flight_of_a_cancelled_batch_are_not_retried(kind: Database) {
        let faults = Faults { latency: Duration::from_millis(300), error_rate: 1.0, ..Faults::default() };
        let bench = Bench::with_faults(kind, &[("sms.retry_delays", "1ms")], faults).await;
        let path = batch(&bench, 10).await;
        bench.received(10).await;
        let (status, answered) = bench.call("DELETE", &path, None).await;
        assert_eq!(status, 200, "{answered}");
        let ended = bench.wait_for(&path, |seen| count(seen, "cancelled") == 10).await;
        assert_eq!(bench.requests().len(), 10, "each was tried once: {ended}");
    }
}

crate::on_each_database! {
    async fn a_message_in_a_lane_is_cancelled_and_a_message_in_flight_is_not(kind: Database) {
        let faults = Faults { latency: SLOW, ..Faults::default() };
        let bench = Bench::with_faults(kind, &[("sms.concurrency", "1")], faults).await;
        let in_flight = one(&bench).await;
        bench.received(1).await;
        let waits = one(&bench).await;
        bench.wait_for(&waits, |seen| seen["status"] == "processing").await;
        assert_eq!(bench.call("DELETE", &waits, None).await.0, 204);
        assert_eq!(bench.get(&waits).await["status"], "cancelled");
        let (status, problem) = bench.call("DELETE", &waits, None).await;
        assert_eq!(status, 409, "{problem}");
        let (status, problem) = bench.call("DELETE", &in_flight, None).await;
        assert!(status == 409 && problem["detail"].as_str().expect("a detail").contains("is processing"), "{problem}");
        bench.wait_for(&in_flight, |seen| seen["status"] == "sent").await;
        let last = one(&bench).await;
        bench.wait_for(&last, |seen| seen["status"] == "sent").await;
        assert_eq!(bench.requests().len(), 2, "the cancelled one was not sent");
    }
}

/// The response said that it is in flight: when its attempt fails it is retried, as without the request to cancel.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_flight_that_could_not_be_cancelled_is_retried() {
    let faults = Faults { latency: Duration::from_millis(500), error_rate: 1.0, ..Faults::default() };
    let bench = Bench::with_faults(Database::Sqlite, &[("sms.retry_delays", "1ms, 1ms")], faults).await;
    let path = one(&bench).await;
    bench.received(1).await;
    assert_eq!(bench.call("DELETE", &path, None).await.0, 409);
    bench.set_faults(Faults::default());
    let sent = bench.wait_for(&path, |seen| seen["status"] == "sent").await;
    assert_eq!(sent["attempts"].as_array().map(Vec::len), Some(2), "{sent}");
}

/// The node that has messages in its lanes recalls them before the response.
#[tokio::test(flavor = "multi_thread")]
async fn messages_in_another_nodes_lanes_are_cancelled() {
    let bench =
        Bench::start(Database::Postgres, &[("channels.rate_per_second", "50"), ("delivery.poll", "60s")])
            .await;
    for role in ["api", "all"] {
        // enough for twenty seconds: another node starts meanwhile, also on a busy machine
        let path = batch(&bench, 1000).await;
        let before = bench.requests().len();
        bench.received(u64::try_from(before).expect("a count") + 10).await;
        let other = bench.beside(&[("node.role", role)]).await;
        let answered = cancelled_at(&other, &path).await;
        other.stop().await;
        let begun = count(&answered, "sent") + count(&answered, "sending");
        let ended = bench.wait_for(&path, |seen| count(seen, "sending") == 0).await;
        assert!(count(&ended, "sent") <= begun && begun < 1000, "{ended} after {answered}");
        assert_eq!(bench.requests().len() - before, count(&ended, "sent"), "{ended}");
    }
}

crate::on_each_database! {
    async fn no_attempt_of_a_mailing_begins_after_it_was_cancelled(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "400"), ("delivery.poll", "60s")]).await;
        bench.import(2000, "vip").await;
        let id = bench.mail("vip", crate::delivery::bench::LONG).await;
        bench.received(100).await;
        bench.post(&format!("/mailings/{id}/cancel"), json!({})).await;
        // attempts in flight may still arrive: no more than the channel's workers
        let begun = bench.requests().len();
        bench.closed(&id).await;
        let late = bench.requests_of(&id).await.len() - begun;
        assert!(late <= 64, "{late} arrived after the answer");
    }
}
