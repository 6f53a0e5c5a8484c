//! The live stream: mailings on their way, and what it refuses.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};

use crate::ask::{ask, fields, id_of, request};
use crate::on_each_database;
use crate::support::{Service, after, balance};

/// Reads a stream as browsers do.
struct Stream {
    response: Response,
    text: String,
    /// The place that was read last.
    last: Option<String>,
}

impl Stream {
    async fn open(service: &Service, query: &str, last: Option<&str>) -> Self {
        let request = request(service, "GET", &format!("/stream{query}"));
        let request = last.into_iter().fold(request, |request, id| request.header("Last-Event-ID", id));
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Self { response, text: String::new(), last: None };
        while stream.last.is_none() {
            assert!(stream.read().await, "it begins with its place");
            let mut lines = stream.text.lines();
            stream.last = lines.find_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
        }
        stream
    }

    /// Reads a piece; false at the end.
    async fn read(&mut self) -> bool {
        let piece = self.response.chunk().await.expect("a whole body");
        let text = piece.as_deref().map(|piece| std::str::from_utf8(piece).expect("UTF-8"));
        self.text.push_str(text.unwrap_or_default());
        text.is_some()
    }

    /// The next event's name and data; none at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
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

    /// The states of a mailing up to this status with nothing left to do; no other mailing is shown.
    async fn until(&mut self, id: &str, status: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let (name, data) = self.next().await.expect("more events");
            assert_eq!((name.as_str(), &data["mailing_id"]), ("mailing", &json!(id)), "{data}");
            assert!(balance(&data["counts"]), "{data}");
            assert_ne!(seen.last(), Some(&data), "nothing has changed");
            seen.push(data.clone());
            let counts = &data["counts"];
            if data["status"] == status && counts["queued"] == 0 && counts["sending"] == 0 {
                return seen;
            }
        }
    }
}

on_each_database! {
    async fn a_mailing_is_watched_to_its_final_state(kind: Database) {
        let service = Service::start_with(kind, &[("channels.rate_per_second", "40")]).await;
        service.import(60, "all").await;
        let mut stream = Stream::open(&service, "", None).await;
        let id = service.mail("all", Duration::from_secs(60)).await;
        let seen = stream.until(&id, "finished").await;
        assert!(seen.len() > 1, "it is shown on its way: {seen:?}");
        let last = seen.last().expect("a state");
        let mailing = service.get(&format!("/mailings/{id}")).await;
        assert_eq!(*last, json!({"mailing_id": id, "status": "finished", "counts": mailing["counts"]}));
        assert_eq!(last["counts"]["sent"], 60);
    }
}

on_each_database! {
    async fn a_mailing_that_begins_and_ends_between_two_looks_is_shown_at_its_end(kind: Database) {
        let service = Service::start(kind).await;
        let mut stream = Stream::open(&service, "", None).await;
        let id = id_of(&service.post("/mailings", json!({"text": "nobody", "filter": "nobody", "ends_at": after(Duration::from_secs(60))})).await);
        let seen = stream.until(&id, "finished").await;
        assert_eq!(seen.last().expect("a state")["counts"]["total"], 0);
    }
}

on_each_database! {
    async fn each_watcher_is_shown_what_it_asked_for(kind: Database) {
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
        assert_eq!(seen.len(), 1, "one change, one event: {seen:?}");
        // told of nothing until the end
        let mut service = service;
        service.stop().await;
        assert_eq!(of_mails.next().await, None);
    }
}

on_each_database! {
    async fn a_mailing_that_ends_while_its_watcher_is_away_is_shown_when_it_comes_back(kind: Database) {
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
    async fn a_place_in_the_stream_of_another_process_is_answered_with_a_reset(kind: Database) {
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
            assert_eq!(stream.next().await, None, "as a whole answer does");
        }
    }
}

on_each_database! {
    async fn a_wrong_parameter_is_named(kind: Database) {
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
