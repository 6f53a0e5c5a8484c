//! Stops the service in the middle by SIGTERM.

use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::crash::campaign::{Campaign, closed, mail};
use crate::crash::events::route;
use crate::process::Server;
use crate::support::Database;

/// The time within which waiting callers get their response, and streams end, after the signal.
const AT_ONCE: Duration = Duration::from_secs(1);

crate::on_each_database! {
    async fn sigterm_waits_for_a_slow_provider_and_no_message_is_repeated(kind: Database) {
        let mut campaign = Campaign::new(kind, &["--latency", "300ms"], &[]).await;
        let mut server = campaign.serve().await;
        let mailing = mail(&server, 500, Duration::from_secs(600)).await;
        campaign.provider.received(100, async || {}).await;
        let began = Instant::now();
        server.process.terminate();
        let status = server.process.ended().await;
        assert_eq!(status.code(), Some(0), "{}", server.process.log());
        assert!(began.elapsed() < Duration::from_secs(5), "the attempts in flight took 300 ms: {:?}", began.elapsed());
        let before = campaign.provider.requests().len();
        assert!(before < 500, "it was stopped in the middle");

        let server = campaign.serve().await;
        let counts = closed(&server, &mailing, 0).await;
        assert_eq!(counts["sent"], 500, "{counts}");
        campaign.check(&mailing).await;
    }
}

/// A caller's response, and the time of its arrival.
type Answered = JoinHandle<(u16, Value, Instant)>;

/// Sends a request, and reads the response concurrently.
fn ask(request: RequestBuilder) -> Answered {
    tokio::spawn(async move {
        let answer = request.send().await.expect("an answer");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("a whole body"));
        (status, serde_json::from_str(&text).expect("JSON"), Instant::now())
    })
}

/// Posts a notification, and waits for its final state for longer than any test takes.
fn wait(server: &Server, path: &str, body: &Value) -> Answered {
    ask(server.http.post(server.url(path)).header("Prefer", "wait=120").json(body))
}

/// Reads a stream until its end. Returns the time of the end.
async fn stream(server: &Server, path: &str) -> JoinHandle<Instant> {
    let request = server.http.get(server.url(path));
    let mut stream: Response = request.send().await.expect("a stream").error_for_status().expect("a stream");
    assert!(stream.chunk().await.expect("its beginning").is_some());
    tokio::spawn(async move {
        while stream.chunk().await.expect("a whole body").is_some() {}
        Instant::now()
    })
}

fn sms(number: u64) -> Value {
    json!({"channel": "sms", "recipient": format!("+{}", 79_030_000_000 + number), "content": "x"})
}

crate::on_each_database! {
    async fn sigterm_answers_waiting_callers_and_ends_streams_within_a_second(kind: Database) {
        let mut campaign = Campaign::new(kind, &["--latency", "4s"], &[]).await;
        let mut server = campaign.serve().await;
        route(&server).await;
        let order = json!({"event": "order.shipped", "id": "1", "payload": {"order": 1, "phone": "+79031234567"}});
        let unending = [stream(&server, "/stream").await, stream(&server, "/inbox/user-1/stream").await];
        let by_short_path = ask(server.http.post(format!("{}/notification", server.base)).json(&sms(1)));
        let keyed = server.http.post(server.url("/notifications")).header("Prefer", "wait=120");
        let mut waiting = vec![
            wait(&server, "/notifications", &sms(0)),
            by_short_path,
            wait(&server, "/events", &order),
            ask(server.http.post(server.url("/channels/sms/test")).json(&json!({"recipient": "+79030000003"}))),
            ask(keyed.header("Idempotency-Key", "waits").json(&sms(4))),
        ];
        campaign.provider.received(waiting.len(), async || {}).await;
        let mut later = sms(5);
        later["scheduled_at"] = json!(crate::support::after(Duration::from_secs(3600)));
        waiting.push(wait(&server, "/notifications", &later));
        server.wait_for("/notifications?status=scheduled", |list| list["items"][0]["id"].is_string()).await;

        let told = Instant::now();
        server.process.terminate();
        let mut seen = Vec::new();
        for answer in waiting {
            let (status, body, at) = answer.await.expect("a task");
            assert_eq!(status, 202, "{body}");
            assert!(at - told < AT_ONCE, "{:?} later: {body}", at - told);
            let one = body.pointer("/notifications/0").unwrap_or(&body);
            seen.push(one["status"].as_str().expect("a status").to_owned());
        }
        assert_eq!(seen, ["processing", "processing", "processing", "processing", "processing", "scheduled"]);
        for stream in unending {
            let at = stream.await.expect("a task");
            assert!(at - told < AT_ONCE, "{:?} later", at - told);
        }
        let status = server.process.ended().await;
        assert_eq!(status.code(), Some(0), "{}", server.process.log());

        let server = campaign.serve().await;
        let sent = server.get("/notifications?status=sent&limit=1000").await;
        assert_eq!(sent["items"].as_array().map(Vec::len), Some(5), "attempts ended before the process: {sent}");
        let keyed = server.http.post(server.url("/notifications")).header("Prefer", "wait=120");
        let (status, body, _) = ask(keyed.header("Idempotency-Key", "waits").json(&sms(4))).await.expect("a task");
        assert_eq!((status, &body["status"]), (202, &json!("processing")), "the first response is repeated");
        assert_eq!(campaign.provider.requests().len(), 5, "no message was repeated");
    }
}

/// Callers wait at a node without an engine, while the node that sends for them is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn final_states_during_a_nodes_shutdown_reach_callers_at_another_node() {
    const CALLERS: usize = 20;
    let mut campaign = Campaign::new(Database::Postgres, &["--latency", "2s"], &[]).await;
    let mut sending = campaign.serve().await;
    let front = campaign.serve_with(&[("FANFARE_ROLE", "api")], None).await;
    let callers = (0..20).map(|number| wait(&front, "/notifications", &sms(number)));
    let callers: Vec<Answered> = callers.collect();
    campaign.provider.received(CALLERS, async || {}).await;
    sending.process.terminate();
    let ended = sending.process.ended().await;
    let told = Instant::now();
    assert_eq!(ended.code(), Some(0), "{}", sending.process.log());
    for caller in callers {
        let (status, body, at) = caller.await.expect("a task");
        assert_eq!((status, &body["status"]), (200, &json!("sent")), "{body}");
        assert!(at < told + AT_ONCE, "{:?} after the end of the node that sent it", at - told);
    }
    assert_eq!(campaign.provider.requests().len(), CALLERS, "no message was repeated");
}
