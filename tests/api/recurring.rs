//! Recurring requests: their occurrences by a test clock, and pausing, resuming, cancelling and running them.

use std::ops::Deref;

use fanfare::app::App;
use fanfare::clock::Clock;
use fanfare::config::Config;
use fanfare::db::types::Timestamp;
use fanfare::http::json::time;
use serde_json::{Value, json};

use crate::api::ask::{fields, id_of, send};
use crate::on_each_database;
use crate::support::api::Api;
use crate::support::listener::Listener;
use crate::support::{Database, TestDb};

/// A service with a test clock, and a server for its requests.
struct House {
    api: Api,
    app: Option<App>,
    clock: Clock,
    listener: Listener,
    database: TestDb,
}

impl Deref for House {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

fn at(text: &str) -> Timestamp {
    time(text).expect("a time")
}

impl House {
    async fn new(kind: Database, now: &str) -> Self {
        let database = TestDb::new(kind);
        let listener = Listener::start(|arrival, _| if arrival.path == "/fails" { 503_u16 } else { 200 })
            .expect("a listener");
        let api = Api::new(String::new());
        let mut house = Self { api, app: None, clock: Clock::manual(at(now)), listener, database };
        house.start().await;
        house
    }

    async fn start(&mut self) {
        let settings = [
            ("http.port", "0"),
            ("database.url", self.database.url.as_str()),
            ("egress.allow", "127.0.0.0/8"),
            ("delivery.poll", "20ms"),
            ("delivery.scheduler_interval", "20ms"),
            ("request.retry_delays", "1h"),
        ];
        let config = Config::with(&settings).expect("a configuration");
        let app = App::start(config, self.clock.clone()).await.expect("a service");
        self.api.base = format!("http://{}", app.address());
        self.app = Some(app);
    }

    /// Stops the service, which must happen before its database is dropped.
    async fn stop(&mut self) {
        if let Some(app) = self.app.take() {
            app.stop().await;
        }
    }

    fn now(&self, text: &str) {
        self.clock.set(at(text));
    }

    fn body(&self, path: &str, cron: &str, more: &Value) -> Value {
        let mut body = json!({"cron": cron, "request": {"url": format!("{}{path}", self.listener.base), "body": {"n": 1}}});
        let more = more.as_object().expect("fields").clone();
        body.as_object_mut().expect("fields").extend(more);
        body
    }

    /// Creates a recurring request and returns it.
    async fn recur(&self, cron: &str, more: Value) -> Value {
        self.post("/requests", self.body("/ok", cron, &more)).await
    }

    async fn read(&self, id: &str) -> Value {
        self.get(&format!("/requests/recurring/{id}")).await
    }

    /// Waits until `count` occurrences have ended. Returns the scheduled time and status of each, in order.
    async fn wait_for_occurrences(&self, id: &str, count: usize) -> Vec<(String, String)> {
        let has_ended = |list: &Value| {
            let items = list["items"].as_array().expect("items");
            items.len() >= count && items.iter().all(|run| !run["finished_at"].is_null())
        };
        let list = self.wait_for(&format!("/requests?recurring_id={id}"), has_ended).await;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let mut runs: Vec<(String, String)> = Vec::new();
        for run in list["items"].as_array().expect("items") {
            assert_eq!(run["recurring_id"], *id, "{run}");
            runs.push((text(&run["execute_at"]), text(&run["status"])));
        }
        runs.sort();
        runs
    }
}

fn sent(times: &[&str]) -> Vec<(String, String)> {
    times.iter().map(|text| (at(text).to_string(), "sent".to_owned())).collect()
}

fn times(seen: &Value) -> Vec<String> {
    seen.as_array().expect("times").iter().map(|time| time.as_str().expect("a time").to_owned()).collect()
}

fn utc(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| at(text).to_string()).collect()
}

on_each_database! {
    async fn occurrences_keep_their_local_time_in_berlin_across_dst(kind: Database) {
        let mut house = House::new(kind, "2026-03-27T08:00:00Z").await;
        let more = json!({"timezone": "Europe/Berlin", "retry": {"until": "2026-03-31T07:00:00Z", "on": ["5xx"]},
            "notify": {"request": {"url": format!("{}/report", house.listener.base)}}});
        let request = house.http.post(house.url("/requests")).json(&house.body("/ok", "0 9 * * *", &more));
        let answer = send(request).await;
        let made = answer.success(202);
        let id = id_of(&made);
        assert_eq!(answer.header("location"), format!("/api/v1/requests/recurring/{id}"));
        assert_eq!((&made["status"], &made["cron"], &made["timezone"]), (&json!("scheduled"), &json!("0 9 * * *"), &json!("Europe/Berlin")));
        assert_eq!((&made["catch_up"], &made["retry"]["on"]), (&json!("once"), &json!(["5xx"])));
        assert_eq!((&made["request"]["verb"], &made["request"]["body"]), (&json!("POST"), &json!({"n": 1})));
        assert!(made["last_run_at"].is_null() && made["execute_at"].is_null(), "{made}");
        // the occurrence of now is past, and the one of the 31st is at the end
        let next = ["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"];
        assert_eq!(times(&made["next_runs"]), utc(&next));
        assert_eq!(house.read(&id).await, made);

        house.now("2026-03-28T08:00:00.5Z");
        assert_eq!(house.wait_for_occurrences(&id, 1).await, sent(&next[..1]));
        let seen = house.read(&id).await;
        assert_eq!((times(&seen["next_runs"]), &seen["last_run_at"]), (utc(&next[1..]), &json!(at("2026-03-28T08:00:00.5Z").to_string())));
        house.now("2026-03-29T07:00:30Z");
        assert_eq!(house.wait_for_occurrences(&id, 2).await, sent(&next[..2]));
        house.now("2026-03-30T07:00:01Z");
        assert_eq!(house.wait_for_occurrences(&id, 3).await, sent(&next));
        let over = house.read(&id).await;
        assert_eq!((&over["status"], &over["next_runs"]), (&json!("scheduled"), &json!([])), "{over}");
        let list = house.get(&format!("/requests?recurring_id={id}")).await;
        let run = list["items"][0]["id"].as_str().expect("an id").to_owned();
        let path = format!("/requests/{run}");
        let run = house.wait_for(&path, |run| run["reports"][0]["status"] == "sent").await;
        assert_eq!((&run["recurring_id"], &run["retry"]["until"]), (&json!(id), &made["until"]));
        assert_eq!(house.listener.at("/report").len(), 3);
        // a recurring request without further occurrences cannot be paused or resumed
        for path in ["pause", "resume"] {
            assert_eq!(house.call("POST", &format!("/requests/recurring/{id}/{path}"), None).await.0, 409);
        }
        house.now("2026-03-31T07:00:00Z");
        assert_eq!(house.call("POST", &format!("/requests/recurring/{id}/run"), None).await.0, 409);
        house.stop().await;
    }
}

on_each_database! {
    async fn occurrences_during_a_pause_are_skipped(kind: Database) {
        let mut house = House::new(kind, "2026-05-01T00:30:00Z").await;
        let id = id_of(&house.recur("@hourly", json!({})).await);
        let path = |verb: &str| format!("/requests/recurring/{id}/{verb}");
        house.now("2026-05-01T01:00:00Z");
        house.wait_for_occurrences(&id, 1).await;
        let paused = house.post(&path("pause"), Value::Null).await;
        assert_eq!((&paused["status"], &paused["next_runs"]), (&json!("paused"), &json!([])));
        assert_eq!(paused["updated_at"], at("2026-05-01T01:00:00Z").to_string());
        assert_eq!(house.call("POST", &path("pause"), None).await.0, 409);
        assert_eq!(house.get("/requests/recurring?status=paused").await["items"], json!([paused]));
        assert_eq!(house.get("/requests/recurring?status=scheduled").await["items"], json!([]));
        house.now("2026-05-01T05:30:00Z");
        // a manual run works also while paused
        let answer = send(house.http.post(house.url(&path("run")))).await;
        let run = answer.success(202);
        assert_eq!(answer.header("location"), format!("/api/v1/requests/{}", id_of(&run)));
        assert_eq!((&run["recurring_id"], &run["status"]), (&json!(id), &json!("queued")));
        house.wait_for_occurrences(&id, 2).await;

        let resumed = house.post(&path("resume"), Value::Null).await;
        assert_eq!((&resumed["status"], times(&resumed["next_runs"]).len()), (&json!("scheduled"), 5));
        assert_eq!(times(&resumed["next_runs"])[0], at("2026-05-01T06:00:00Z").to_string());
        assert_eq!(resumed["last_run_at"], at("2026-05-01T05:30:00Z").to_string());
        assert_eq!(house.call("POST", &path("resume"), None).await.0, 409);
        house.now("2026-05-01T06:00:00Z");
        let runs = ["2026-05-01T01:00:00Z", "2026-05-01T05:30:00Z", "2026-05-01T06:00:00Z"];
        assert_eq!(house.wait_for_occurrences(&id, 3).await, sent(&runs));
        house.stop().await;
    }
}

on_each_database! {
    async fn occurrences_missed_during_downtime_become_one_or_none(kind: Database) {
        let mut house = House::new(kind, "2026-05-01T00:30:00Z").await;
        let once = id_of(&house.recur("@hourly", json!({"catch_up": "once"})).await);
        let skip = id_of(&house.recur("@hourly", json!({"catch_up": "skip"})).await);
        house.stop().await;
        house.now("2026-05-01T04:10:00Z");
        house.start().await;
        assert_eq!(house.wait_for_occurrences(&once, 1).await, sent(&["2026-05-01T01:00:00Z"]));
        let path = format!("/requests/recurring/{skip}");
        let next = json!(at("2026-05-01T05:00:00Z").to_string());
        let seen = house.wait_for(&path, |seen| seen["next_runs"][0] == next).await;
        assert!(seen["last_run_at"].is_null(), "no occurrence ran");
        house.now("2026-05-01T05:00:00Z");
        assert_eq!(house.wait_for_occurrences(&skip, 1).await, sent(&["2026-05-01T05:00:00Z"]));
        assert_eq!(house.wait_for_occurrences(&once, 2).await, sent(&["2026-05-01T01:00:00Z", "2026-05-01T05:00:00Z"]));
        house.stop().await;
    }
}

on_each_database! {
    async fn a_failing_occurrence_delays_no_other_and_is_cancelled_with_its_request(kind: Database) {
        let mut house = House::new(kind, "2026-05-01T00:59:00Z").await;
        let made = house.post("/requests", house.body("/fails", "* * * * *", &json!({}))).await;
        let id = id_of(&made);
        for (count, now) in [(1, "2026-05-01T01:00:00Z"), (2, "2026-05-01T01:01:00Z")] {
            house.now(now);
            // each occurrence has failed once and is retried after an hour
            let path = format!("/requests?recurring_id={id}");
            let tried = |list: &Value| {
                let items = list["items"].as_array().expect("items");
                items.len() == count && items.iter().all(|run| run["attempt_count"] == 1 && run["status"] == "queued")
            };
            house.wait_for(&path, tried).await;
        }
        assert_eq!(house.call("DELETE", &format!("/requests/recurring/{id}"), None).await, (204, Value::Null));
        let runs = house.wait_for_occurrences(&id, 2).await;
        assert!(runs.iter().all(|(_, status)| status == "cancelled"), "{runs:?}");
        let cancelled = house.read(&id).await;
        assert_eq!((&cancelled["status"], &cancelled["next_runs"]), (&json!("cancelled"), &json!([])));
        for (method, path) in [("DELETE", ""), ("POST", "/run"), ("POST", "/pause"), ("POST", "/resume")] {
            let (status, problem) = house.call(method, &format!("/requests/recurring/{id}{path}"), None).await;
            assert_eq!(status, 409, "{method} {path}: {problem}");
        }
        house.stop().await;
    }
}

on_each_database! {
    async fn repeated_runs_with_one_key_make_one_occurrence(kind: Database) {
        let mut house = House::new(kind, "2026-05-01T00:00:00Z").await;
        let id = id_of(&house.recur("0 0 1 1 *", json!({})).await);
        let run = |key: &'static str| {
            send(house.http.post(house.url(&format!("/requests/recurring/{id}/run"))).header("idempotency-key", key))
        };
        let (one, two) = tokio::join!(run("twice"), run("twice"));
        let replayed = [&one, &two].map(|answer| answer.header("idempotency-replayed") == "true");
        assert!(replayed[0] != replayed[1], "{replayed:?}");
        assert_eq!((one.status, one.header("location"), &one.text), (202, two.header("location"), &two.text));
        let other = run("other").await;
        assert_ne!(one.success(202)["id"], other.success(202)["id"]);
        assert_eq!(house.wait_for_occurrences(&id, 2).await.len(), 2);

        // the stored response is returned even when the request can no longer run
        assert_eq!(house.call("DELETE", &format!("/requests/recurring/{id}"), None).await.0, 204);
        let again = run("twice").await;
        assert_eq!((again.status, again.text), (202, two.text));
        assert_eq!(run("new").await.status, 409);
        let foreign = house.http.post(house.url("/requests")).header("idempotency-key", "twice");
        let foreign = send(foreign.json(&house.body("/ok", "0 0 1 1 *", &json!({})))).await;
        assert_eq!(fields(&foreign.problem(422)), ["Idempotency-Key"]);
        house.stop().await;
    }
}

on_each_database! {
    async fn lists_are_paginated_with_the_newest_first(kind: Database) {
        let mut house = House::new(kind, "2026-05-01T00:00:00Z").await;
        let mut ids = Vec::new();
        for minute in 0..5 {
            ids.push(id_of(&house.recur(&format!("{minute} 0 1 1 *"), json!({})).await));
        }
        ids.reverse();
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = house.get(&format!("/requests/recurring?limit=2{cursor}")).await;
            seen.extend(page["items"].as_array().expect("items").iter().map(id_of));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, ids);
        for (query, field) in [("status=nope", "status"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("x=1", "x")] {
            let (status, problem) = house.call("GET", &format!("/requests/recurring?{query}"), None).await;
            assert_eq!((status, fields(&problem)), (422, vec![field.to_owned()]), "{problem}");
        }
        let nobody = "019f0d5c-7a5e-7c1e-9d0f-3a6c5b0f6f10";
        for (method, path) in [("GET", ""), ("DELETE", ""), ("POST", "/run"), ("POST", "/pause"), ("POST", "/resume")] {
            assert_eq!(house.call(method, &format!("/requests/recurring/{nobody}{path}"), None).await.0, 404);
            assert_eq!(house.call(method, &format!("/requests/recurring/x{path}"), None).await.0, 422);
        }
        house.stop().await;
    }
}

on_each_database! {
    async fn each_invalid_field_is_named(kind: Database) {
        let mut house = House::new(kind, "2026-05-01T00:00:00Z").await;
        for (cron, more, wrong) in [
            ("0 9 * *", json!({}), vec!["cron"]),
            ("0 0 30 2 *", json!({}), vec!["cron"]),
            ("@daily", json!({"timezone": "Mars/Base"}), vec!["timezone"]),
            ("@daily", json!({"catch_up": "twice"}), vec!["catch_up"]),
            ("@never", json!({"timezone": "", "catch_up": ""}), vec!["catch_up", "cron", "timezone"]),
            ("@daily", json!({"execute_at": "2028-01-01T00:00:00Z"}), vec!["execute_at"]),
            ("@daily", json!({"retry": {"until": "2026-04-30T00:00:00Z"}}), vec!["retry.until"]),
            // there is no occurrence before the end
            ("@yearly", json!({"retry": {"until": "2026-12-31T00:00:00Z"}}), vec!["retry.until"]),
        ] {
            let (status, problem) = house.call("POST", "/requests", Some(house.body("/ok", cron, &more))).await;
            assert_eq!(status, 422, "{cron} {more}: {problem}");
            let mut found = fields(&problem);
            found.sort();
            assert_eq!(found, wrong, "{problem}");
        }
        let mut alone = house.body("/ok", "", &json!({"timezone": "UTC", "catch_up": "once"}));
        alone.as_object_mut().expect("fields").remove("cron");
        let (status, problem) = house.call("POST", "/requests", Some(alone)).await;
        assert_eq!((status, fields(&problem).len()), (422, 2), "{problem}");
        house.stop().await;
    }
}

on_each_database! {
    async fn the_start_is_respected_and_a_key_creates_one_recurring_request(kind: Database) {
        let mut house = House::new(kind, "2026-05-01T00:00:00Z").await;
        let more = json!({"execute_at": "2026-05-01T03:00:00Z", "retry": {"until": "2026-05-01T05:00:00Z"}});
        let body = house.body("/ok", "@hourly", &more);
        let ask = || house.http.post(house.url("/requests")).header("idempotency-key", "once").json(&body);
        let made = send(ask()).await.success(202);
        let first = ["2026-05-01T03:00:00Z", "2026-05-01T04:00:00Z"];
        assert_eq!((times(&made["next_runs"]), &made["execute_at"]), (utc(&first), &json!(at(first[0]).to_string())));
        // after a pause and a resume it still waits for its start
        let id = id_of(&made);
        house.post(&format!("/requests/recurring/{id}/pause"), Value::Null).await;
        let resumed = house.post(&format!("/requests/recurring/{id}/resume"), Value::Null).await;
        assert_eq!(resumed["next_runs"], made["next_runs"]);
        // its times are past now, but were valid at the first request
        house.now("2026-05-01T12:00:00Z");
        let again = send(ask()).await;
        assert_eq!((again.success(202), again.header("idempotency-replayed")), (made, "true"));
        assert_eq!(house.get("/requests/recurring").await["items"].as_array().map(Vec::len), Some(1));
        house.stop().await;
    }
}
