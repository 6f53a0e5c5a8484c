//! The switch that pauses all sending.

use std::time::Duration;

use serde_json::{Value, json};

use crate::delivery::bench::{Bench, LONG};
use crate::support::Database;

/// Posts one text message. Returns its path.
async fn one(bench: &Bench) -> String {
    let made = bench
        .post("/notifications", json!({"channel": "sms", "recipient": "79000000000", "content": "x"}))
        .await;
    format!("/notifications/{}", made["id"].as_str().expect("an id"))
}

/// Runs a mailing to two other clients until its window closes, during the pause: enough time for a mistake to show.
async fn meanwhile(bench: &Bench) {
    bench.clients("phone_number,tag\n79990000001,other\n79990000002,other\n".into()).await;
    let id = bench.mail("other", Duration::from_millis(1500)).await;
    assert_eq!(bench.closed(&id).await["expired"], 2);
}

async fn metric(bench: &Bench) -> String {
    let url = bench.url("/metrics").replace("/api/v1", "");
    let text = reqwest::get(url).await.expect("an answer").text().await.expect("a text");
    let line = text.lines().find(|line| line.starts_with("fanfare_sending_paused ")).expect("the metric");
    line.to_owned()
}

async fn ready(bench: &Bench) -> Value {
    let url = bench.url("/ready").replace("/api/v1", "");
    let answer = reqwest::get(url).await.expect("an answer");
    assert_eq!(answer.status(), 200, "a service that is paused is ready");
    answer.json().await.expect("JSON")
}

crate::on_each_database! {
    async fn while_sending_is_paused_everything_is_accepted_and_nothing_is_sent(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "400")]).await;
        bench.import(800, "vip").await;
        let id = bench.mail("vip", LONG).await;
        bench.received(50).await;
        let paused = bench.post("/sending/pause", json!({})).await;
        assert_eq!(paused["paused"], true);
        let again = bench.post("/sending/pause", json!({})).await;
        assert_eq!(again, paused, "since the first time");
        bench.wait_for(&format!("/mailings/{id}"), |mailing| mailing["counts"]["sending"] == 0).await;
        let before = bench.requests().len();
        assert!(before < 800, "it was paused in the middle");
        let single = one(&bench).await;
        let request = json!({"request": {"url": "https://hooks.example.com/x"}});
        let request = bench.post("/requests", request).await["id"].as_str().expect("an id").to_owned();
        meanwhile(&bench).await;
        assert_eq!(bench.requests().len(), before, "nothing is sent while it is paused");
        assert_eq!(bench.get(&single).await["status"], "queued");
        assert_eq!(bench.get(&format!("/requests/{request}")).await["attempt_count"], 0);
        assert_eq!((ready(&bench).await["sending_paused"].clone(), metric(&bench).await), (json!(true), "fanfare_sending_paused 1".into()));
        assert_eq!(bench.get("/sending").await, paused);
        assert_eq!(bench.call("DELETE", &format!("/requests/{request}"), None).await.0, 204);
        assert_eq!(bench.post("/sending/resume", json!({})).await, json!({"paused": false, "paused_at": null}));
        assert_eq!((ready(&bench).await["sending_paused"].clone(), metric(&bench).await), (json!(false), "fanfare_sending_paused 0".into()));
        bench.wait_for(&single, |seen| seen["status"] == "sent").await;
        assert_eq!(bench.closed(&id).await["sent"], 800);
        bench.each_received_once(&id).await;
    }
}

crate::on_each_database! {
    async fn a_start_with_sending_off_sends_nothing_until_it_is_resumed(kind: Database) {
        let mut bench = Bench::start(kind, &[("delivery.sending", "off")]).await;
        bench.import(20, "vip").await;
        let (id, single) = (bench.mail("vip", LONG).await, one(&bench).await);
        meanwhile(&bench).await;
        bench.stop().await;
        bench.set("delivery.sending", "on");
        bench.go_on().await;
        meanwhile(&bench).await;
        assert!(bench.requests().is_empty(), "it was left paused");
        bench.post("/sending/resume", json!({})).await;
        bench.wait_for(&single, |seen| seen["status"] == "sent").await;
        assert_eq!(bench.closed(&id).await["sent"], 20);
        assert_eq!(bench.requests().len(), 21);
    }
}

/// A node with only the API can also pause, and the other nodes follow.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_for_all_nodes() {
    let bench = Bench::start(Database::Postgres, &[("channels.rate_per_second", "100")]).await;
    let other = bench.beside(&[("node.role", "api")]).await;
    bench.import(400, "vip").await;
    let id = bench.mail("vip", LONG).await;
    bench.received(20).await;
    other.post("/sending/pause", json!({})).await;
    bench.wait_for(&format!("/mailings/{id}"), |mailing| mailing["counts"]["sending"] == 0).await;
    let before = bench.requests().len();
    meanwhile(&bench).await;
    assert_eq!(bench.requests().len(), before);
    other.post("/sending/resume", json!({})).await;
    assert_eq!(bench.closed(&id).await["sent"], 400);
    bench.each_received_once(&id).await;
    other.stop().await;
}
