//! The live stream: changes of mailings and notifications, and refused parameters.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};

use crate::api::ask::{ask, fields, id_of, request};
use crate::on_each_database;
use crate::support::api::Api;
use crate::support::{Database, Service, after, balance};

/// A reader of an event stream that behaves like browsers.
pub struct Stream {
    response: Response,
    text: String,
    /// The last event id.
    pub last: Option<String>,
}

impl Stream {
    async fn open(service: &Api, query: &str, last: Option<&str>) -> Self {
        Self::at(service, &format!("/stream{query}"), last).await
    }

    /// Opens the stream at this path under the API's root.
    pub async fn at(service: &Api, path: &str, last: Option<&str>) -> Self {
        let request = request(service, "GET", path);
        let request = last.into_iter().fold(request, |request, id| request.header("Last-Event-ID", id));
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Self { response, text: String::new(), last: None };
        while stream.last.is_none() {
            assert!(stream.read().await, "the stream begins with an event id");
            let mut lines = stream.text.lines();
            stream.last = lines.find_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
        }
        stream
    }

    /// Reads a chunk. Returns false at the end.
    async fn read(&mut self) -> bool {
        let piece = self.response.chunk().await.expect("a whole body");
        let text = piece.as_deref().map(|piece| std::str::from_utf8(piece).expect("UTF-8"));
        self.text.push_str(text.unwrap_or_default());
        text.is_some()
    }

    /// Returns the next event's name and data, or `None` at the end.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let of =
                    |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let (name, data, id) = (of("event: "), of("data: "), of("id: "));
                self.text = rest.to_owned();
                self.last = id.or(self.last.take());
                if let (Some(name), Some(data)) = (name, data) {
                    return Some((name, serde_json::from_str(&data).expect("JSON")));
                }
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// Returns the changes of notifications up to one with this status.
    async fn changes_until(&mut self, status: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let (name, data) = self.next().await.expect("more events");
            assert_eq!(name, "notification", "{data}");
            seen.push(data);
            if seen.last().is_some_and(|change| change["status"] == status) {
                return seen;
            }
        }
    }

    /// Returns the states of a mailing up to this status without remaining work. Panics at an event of another mailing.
    async fn until(&mut self, id: &str, status: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let (name, data) = self.next().await.expect("more events");
            assert_eq!((name.as_str(), &data["mailing_id"]), ("mailing", &json!(id)), "{data}");
            assert!(balance(&data["counts"]), "{data}");
            assert_ne!(seen.last(), Some(&data), "an event without a change");
            seen.push(data.clone());
            let counts = &data["counts"];
            if data["status"] == status && counts["queued"] == 0 && counts["sending"] == 0 {
                return seen;
            }
        }
    }
}

on_each_database! {
    async fn a_mailing_is_shown_until_its_final_state(kind: Database) {
        let service = Service::start_with(kind, &[("channels.rate_per_second", "40")]).await;
        service.import(60, "all").await;
        let mut stream = Stream::open(&service, "", None).await;
        let id = service.mail("all", Duration::from_secs(60)).await;
        let seen = stream.until(&id, "finished").await;
        assert!(seen.len() > 1, "intermediate states are shown: {seen:?}");
        let last = seen.last().expect("a state");
        let mailing = service.get(&format!("/mailings/{id}")).await;
        assert_eq!(*last, json!({"mailing_id": id, "status": "finished", "counts": mailing["counts"]}));
        assert_eq!(last["counts"]["sent"], 60);
    }
}

on_each_database! {
    async fn a_mailing_that_starts_and_ends_between_two_polls_is_shown_at_its_end(kind: Database) {
        let service = Service::start(kind).await;
        let mut stream = Stream::open(&service, "", None).await;
        let id = id_of(&service.post("/mailings", json!({"text": "nobody", "filter": "nobody", "ends_at": after(Duration::from_secs(60))})).await);
        let seen = stream.until(&id, "finished").await;
        assert_eq!(seen.last().expect("a state")["counts"]["total"], 0);
    }
}

on_each_database! {
    async fn each_subscriber_gets_the_requested_events(kind: Database) {
        let service = Service::start(kind).await;
        service.import(5, "all").await;
        let later = || json!({"text": "x", "starts_at": after(Duration::from_secs(60)), "ends_at": after(Duration::from_secs(90))});
        let (one, other) = (id_of(&service.post("/mailings", later()).await), id_of(&service.post("/mailings", later()).await));
        let mut of_one = Stream::open(&service, &format!("?mailing_id={one}"), None).await;
        let mut of_other = Stream::open(&service, &format!("?channel=sms&mailing_id={other}"), None).await;
        let mut of_mails = Stream::open(&service, "?channel=email", None).await;
        service.post(&format!("/mailings/{other}/cancel"), json!({})).await;
        of_other.until(&other, "cancelled").await;
        service.post(&format!("/mailings/{one}/cancel"), json!({})).await;
        let seen = of_one.until(&one, "cancelled").await;
        assert_eq!(seen.len(), 1, "one event for one change: {seen:?}");
        // no event until the end
        let mut service = service;
        service.stop().await;
        assert_eq!(of_mails.next().await, None);
    }
}

on_each_database! {
    async fn a_mailing_that_ends_while_disconnected_is_shown_after_reconnecting(kind: Database) {
        let service = Service::start(kind).await;
        service.import(20, "all").await;
        let mut stream = Stream::open(&service, "", None).await;
        let first = service.mail("all", Duration::from_secs(60)).await;
        stream.until(&first, "finished").await;
        let last = stream.last.clone();
        drop(stream);
        let second = service.mail("all", Duration::from_secs(60)).await;
        service.finished(&second).await;
        let mut back = Stream::open(&service, "", last.as_deref()).await;
        back.until(&second, "finished").await;
    }
}

on_each_database! {
    async fn an_event_id_of_another_process_causes_a_reset(kind: Database) {
        let mut service = Service::start(kind).await;
        let stream = Stream::open(&service, "", None).await;
        let last = stream.last.clone();
        service.stop().await;
        service.go_on().await;
        let mut back = Stream::open(&service, "", last.as_deref()).await;
        let (name, data) = back.next().await.expect("an event");
        assert_eq!(name, "reset");
        assert!(data["detail"].is_string(), "{data}");
        assert_ne!(back.last, last);
    }
}

on_each_database! {
    async fn open_streams_end_with_the_service(kind: Database) {
        let mut service = Service::start(kind).await;
        let mut streams = Vec::new();
        for query in ["", "?channel=sms", "?batch_id=01a1fc61-a8f3-73b0-a95f-0a1fa6fc16ec"] {
            streams.push(Stream::open(&service, query, None).await);
        }
        service.stop().await;
        for mut stream in streams {
            assert_eq!(stream.next().await, None, "the response ends properly");
        }
    }
}

on_each_database! {
    async fn an_invalid_parameter_is_named(kind: Database) {
        let service = Service::start(kind).await;
        for (query, names) in [
            ("?mailing_id=x", vec!["mailing_id"]),
            ("?batch_id=", vec!["batch_id"]),
            ("?channel=pigeon", vec!["channel"]),
            ("?mailing_id=1&batch_id=2&channel=3", vec!["batch_id", "channel", "mailing_id"]),
            ("?mailing=x", vec!["mailing"]),
            ("?channel=sms&channel=email", vec!["channel"]),
        ] {
            let problem = ask(&service, "GET", &format!("/stream{query}"), None).await.problem(422);
            assert_eq!(fields(&problem), names, "{query}");
        }
        ask(&service, "POST", "/stream", None).await.problem(405);
        let head = request(&service, "HEAD", "/stream").send().await.expect("an answer");
        assert_eq!((head.status().as_u16(), &head.headers()["content-type"]), (200, &"text/event-stream".parse().expect("a header")));
    }
}

fn in_app(content: &str) -> Value {
    json!({"channel": "in_app", "recipient": "user-1", "content": content})
}

fn statuses(changes: &[Value], id: &str) -> Vec<String> {
    let of = changes.iter().filter(|change| change["id"] == id);
    of.map(|change| change["status"].as_str().expect("a status").to_owned()).collect()
}

on_each_database! {
    async fn a_notification_is_shown_from_its_acceptance_to_its_end(kind: Database) {
        let service = Service::start(kind).await;
        let mut stream = Stream::open(&service, "?channel=in_app", None).await;
        let mut of_batch = Stream::open(&service, "?batch_id=01a1fc61-a8f3-73b0-a95f-0a1fa6fc16ec", None).await;
        let id = id_of(&service.post("/notifications", in_app("now")).await);
        let seen = stream.changes_until("sent").await;
        assert_eq!(statuses(&seen, &id), ["queued", "processing", "sent"]);
        let last = seen.last().expect("a change");
        let sent = service.get(&format!("/notifications/{id}")).await;
        assert_eq!(*last, json!({"id": id, "channel": "in_app", "status": "sent", "attempts": 1, "at": sent["finished_at"]}));
        let mut later = in_app("later");
        later["scheduled_at"] = json!(after(Duration::from_secs(3600)));
        let later = id_of(&service.post("/notifications", later).await);
        service.post("/notifications", json!({"channel": "sms", "recipient": "+905551234567", "content": "not watched"})).await;
        assert_eq!(ask(&service, "DELETE", &format!("/notifications/{later}"), None).await.status, 204);
        let seen = stream.changes_until("cancelled").await;
        assert_eq!((statuses(&seen, &later), seen.len()), (vec!["scheduled".to_owned(), "cancelled".to_owned()], 2));
        let mut service = service;
        service.stop().await;
        assert_eq!(of_batch.next().await, None, "no events for another batch");
    }
}

on_each_database! {
    async fn a_batch_has_its_own_stream(kind: Database) {
        let service = Service::start(kind).await;
        let mut stream = Stream::open(&service, "?channel=in_app", None).await;
        let mut later = in_app("later");
        later["scheduled_at"] = json!(after(Duration::from_secs(3600)));
        let batch = service.post("/notifications/batch", json!({"notifications": [later, later]})).await;
        let batch = batch["batch_id"].as_str().expect("an id").to_owned();
        let of_channel = [stream.next().await.expect("a change"), stream.next().await.expect("a change")];
        assert!(of_channel.iter().all(|(_, change)| change["batch_id"] == batch && change["status"] == "scheduled"));
        let mut of_batch = Stream::open(&service, &format!("?batch_id={batch}"), None).await;
        service.post("/notifications", in_app("another")).await;
        ask(&service, "DELETE", &format!("/batches/{batch}"), None).await.success(200);
        for _ in 0..2 {
            let (_, change) = of_batch.next().await.expect("a change");
            assert_eq!((&change["batch_id"], &change["status"]), (&json!(batch), &json!("cancelled")));
        }
    }
}

/// The stream is open at a node that only serves the API, and another node sends.
#[tokio::test(flavor = "multi_thread")]
async fn changes_by_another_node_are_shown() {
    let service = Service::start(Database::Postgres).await;
    let front = service.beside(&[("node.role", "api")]).await;
    let mut stream = Stream::open(&front, "?channel=in_app", None).await;
    let mut watched = Vec::new();
    // the other node soon learns of the subscriber on this node
    while !watched.iter().any(|change: &Value| change["status"] == "sent") {
        front.post("/notifications", in_app("until one is seen")).await;
        let seen = tokio::time::timeout(Duration::from_millis(200), stream.changes_until("sent")).await;
        watched.extend(seen.unwrap_or_default());
    }
    let batch = json!({"notifications": vec![in_app("in a batch"); 500]});
    let batch =
        service.post("/notifications/batch", batch).await["batch_id"].as_str().expect("an id").to_owned();
    let mut ended = 0;
    let mut of_batch = Vec::new();
    while ended < 500 {
        let (name, change) = stream.next().await.expect("more events");
        assert_eq!(name, "notification");
        if change["batch_id"] == batch {
            ended += i32::from(change["status"] == "sent");
            of_batch.push(change);
        }
    }
    let first = of_batch[0]["id"].as_str().expect("an id");
    assert_eq!(statuses(&of_batch, first), ["queued", "processing", "sent"]);
    front.stop().await;
}

/// The caller waits at a node that does not send. The engine of another node announces the outcome, and cancellations
/// made elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_waiting_at_one_node_gets_the_outcome_from_another() {
    let mut service = Service::start(Database::Postgres).await;
    let front = service.beside(&[("node.role", "api")]).await;
    let wait = |body: Value| {
        request(&front, "POST", "/notifications").header("Prefer", "wait=50").json(&body).send()
    };
    let sent = wait(in_app("now")).await.expect("an answer");
    assert_eq!(
        (sent.status().as_u16(), &sent.json::<Value>().await.expect("JSON")["status"]),
        (200, &json!("sent"))
    );
    let mut later = in_app("later");
    later["scheduled_at"] = json!(after(Duration::from_secs(3600)));
    let cancel = async {
        let found = service
            .wait_for("/notifications?status=scheduled", |list| list["items"][0]["id"].is_string())
            .await;
        let path = format!("/notifications/{}", id_of(&found["items"][0]));
        assert_eq!(ask(&service, "DELETE", &path, None).await.status, 204);
    };
    let (answer, ()) = tokio::join!(wait(later), cancel);
    let answer = answer.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.json::<Value>().await.expect("JSON")["status"]),
        (200, &json!("cancelled"))
    );
    front.stop().await;
    service.stop().await;
}
