//! Dead letters over HTTP: listed, read, replayed only once, and dropped.

use std::time::Duration;

use fanfare::clock::Clock;
use fanfare::db::types::MessageId;
use fanfare::dead_letters::model::NewDeadEvent;
use fanfare::dead_letters::repo;
use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::api::ask::{all_pages, database, fields, texts};
use crate::on_each_database;
use crate::support::{Service, after};

/// Starts a service without retries and a provider that refuses everything.
async fn refusing(kind: crate::support::Database) -> Service {
    let service =
        Service::start_with(kind, &[("sms.retry_delays", "10ms"), ("dead_letters.replay_rate", "1000")])
            .await;
    service.faults(Faults { permanent_rate: 1.0, ..Faults::default() });
    service
}

/// Posts a notification, waits until it has failed, and returns its id.
async fn failed(service: &Service, body: Value) -> String {
    let id = service.post("/notifications", body).await["id"].as_str().expect("an id").to_owned();
    service
        .wait_for("/dead-letters?limit=1000", |page| {
            page["items"].as_array().expect("items").iter().any(|letter| letter["id"] == json!(id))
        })
        .await;
    id
}

fn sms(number: usize) -> Value {
    json!({"channel": "sms", "recipient": format!("+7903000{number:04}"), "content": "hello"})
}

on_each_database! {
    async fn a_dead_letter_is_listed_read_and_replayed_only_once(kind: Database) {
        let service = refusing(kind).await;
        let id = failed(&service, sms(1)).await;
        let path = format!("/dead-letters/{id}");
        let letter = service.get(&path).await;
        assert_eq!(letter["kind"], "message", "{letter}");
        assert_eq!((&letter["class"], &letter["channel"]), (&json!("rejected"), &json!("sms")), "{letter}");
        assert_eq!(letter["message"]["recipient"], "+79030000001", "{letter}");
        assert_eq!(letter["message"]["attempt_log"].as_array().map(Vec::len), Some(1), "{letter}");
        assert_eq!((&letter["replays"], &letter["event"]), (&json!([]), &Value::Null), "{letter}");

        service.faults(Faults::default());
        let replay = format!("{path}/replay");
        let asked = futures_util::future::join_all((0..10).map(|_| service.call("POST", &replay, None))).await;
        let done: Vec<&Value> = asked.iter().filter(|(status, _)| *status == 200).map(|(_, body)| body).collect();
        assert_eq!(done.len(), 1, "{asked:?}");
        assert_eq!((&done[0]["id"], &done[0]["message"]["id"]), (&json!(id), &json!(id)), "{done:?}");
        assert!(asked.iter().all(|(status, _)| matches!(status, 200 | 409)), "{asked:?}");

        let sent = service.wait_for(&format!("/notifications/{id}"), |found| found["status"] == "sent").await;
        let numbers: Vec<&Value> = sent["attempts"].as_array().expect("attempts").iter().map(|a| &a["number"]).collect();
        assert_eq!(numbers, [&json!(1), &json!(2)], "{sent}");
        assert_eq!(sent["retry_count"], 0, "counted from the replay: {sent}");
        assert_eq!(service.sandbox.stats().requests, 2);
        assert_eq!(service.call("GET", &path, None).await.0, 404);
        let (status, again) = service.call("POST", &replay, None).await;
        assert!(status == 409 && again["detail"].as_str().expect("why").contains("sent"), "{again}");
    }
}

on_each_database! {
    async fn a_dropped_dead_letter_stays_a_failed_message(kind: Database) {
        let service = refusing(kind).await;
        let id = failed(&service, sms(1)).await;
        let path = format!("/dead-letters/{id}");
        assert_eq!(service.call("DELETE", &path, None).await, (204, Value::Null));
        assert_eq!(service.call("DELETE", &path, None).await.0, 404);
        assert_eq!(service.call("GET", &path, None).await.0, 404);
        let (status, why) = service.call("POST", &format!("{path}/replay"), None).await;
        assert!(status == 409 && why["detail"].as_str().expect("why").contains("dropped"), "{why}");
        assert_eq!(service.get("/dead-letters").await, json!({"items": [], "next_cursor": null}));
        assert_eq!(service.get(&format!("/messages/{id}")).await["status"], "failed");
        let failed = service.get("/messages?status=failed").await;
        assert_eq!(texts(failed["items"].as_array().expect("items"), "id"), [id]);
    }
}

on_each_database! {
    async fn dead_letters_are_listed_and_dropped_by_filter(kind: Database) {
        let service = refusing(kind).await;
        for number in 0..7 {
            failed(&service, sms(number)).await;
        }
        let mail = json!({"channel": "email", "recipient": "a@example.com", "content": "x", "subject": "y"});
        let mail = failed(&service, mail).await;
        let all = texts(&all_pages(&service, "/dead-letters", 3).await, "id");
        assert_eq!(all.len(), 8);
        let times = texts(&all_pages(&service, "/dead-letters", 3).await, "failed_at");
        assert!(times.is_sorted_by(|a, b| a >= b), "the newest failure first: {times:?}");
        for (query, expected) in [
            ("channel=sms", 7), ("channel=email&class=rejected", 1), ("class=gone", 0), ("class=rejected", 8),
            ("kind=event", 0), ("kind=message", 8), ("failed_before=2020-01-01T00:00:00Z", 0),
            ("failed_after=2020-01-01T00:00:00Z&channel=sms", 7),
            ("mailing_id=01a1fd78-dce9-703e-ab9c-ffd64ca17562", 0),
        ] {
            let found = all_pages(&service, &format!("/dead-letters?{query}"), 2).await;
            assert_eq!(found.len(), expected, "{query}");
        }
        for (query, field) in [
            ("channel=pigeon", "channel"), ("class=bad", "class"), ("kind=letter", "kind"), ("mailing_id=1", "mailing_id"),
            ("event_id=x", "event_id"), ("failed_after=yesterday", "failed_after"), ("cursor=zz", "cursor"), ("limit=0", "limit"),
        ] {
            let (status, problem) = service.call("GET", &format!("/dead-letters?{query}"), None).await;
            assert_eq!((status, fields(&problem)), (422, vec![field.to_owned()]), "{problem}");
        }
        let dropped = service.post("/dead-letters/drop", json!({"filter": {"channel": "sms"}})).await;
        assert_eq!(dropped, json!({"dropped": 7}));
        let left = service.get("/dead-letters").await;
        assert_eq!(texts(left["items"].as_array().expect("items"), "id"), [mail]);
        let wrong = service.call("POST", "/dead-letters/drop", Some(json!({"filter": {"channel": "x"}}))).await;
        assert_eq!((wrong.0, fields(&wrong.1)), (422, vec!["filter.channel".to_owned()]), "{}", wrong.1);
    }
}

on_each_database! {
    async fn many_are_replayed_in_the_background_and_counted(kind: Database) {
        let service = refusing(kind).await;
        for number in 0..5 {
            failed(&service, sms(number)).await;
        }
        let end = after(Duration::from_secs(3));
        let mut late = sms(9);
        late["expires_at"] = json!(end);
        failed(&service, late).await;
        while after(Duration::ZERO) < end {
            tokio::time::sleep(crate::support::api::LOOK).await;
        }
        service.faults(Faults::default());
        let body = json!({"filter": {"channel": "sms", "class": "rejected"}, "rate_per_second": 50});
        let begun = service.post("/dead-letters/replays", body).await;
        assert_eq!((&begun["status"], &begun["rate_per_second"]), (&json!("running"), &json!(50.0)), "{begun}");
        let id = begun["id"].as_str().expect("an id");
        let path = format!("/dead-letters/replays/{id}");
        let ended = service.wait_for(&path, |replay| replay["status"] == "finished").await;
        assert_eq!((&ended["replayed"], &ended["refused"]), (&json!(5), &json!(1)), "{ended}");
        assert_eq!(ended["refusals"], json!({"expired": 1}), "{ended}");
        assert_eq!(ended["filter"], json!({"channel": "sms", "class": "rejected"}), "{ended}");
        service.wait_for("/notifications?status=sent", |page| page["items"].as_array().map(Vec::len) == Some(5)).await;
        assert_eq!(service.get("/dead-letters").await["items"].as_array().map(Vec::len), Some(1));

        let (status, over) = service.call("DELETE", &path, None).await;
        assert!(status == 409 && over["detail"].as_str().expect("why").contains("finished"), "{over}");
        assert_eq!(texts(service.get("/dead-letters/replays").await["items"].as_array().expect("items"), "id"), [id]);
        for (body, field) in [
            (json!({}), "filter"),
            (json!({"filter": {}, "rate_per_second": 0}), "rate_per_second"),
            (json!({"filter": {"class": "bad"}}), "filter.class"),
            (json!({"filter": {"colour": "red"}}), "filter.colour"),
        ] {
            let (status, problem) = service.call("POST", "/dead-letters/replays", Some(body)).await;
            assert_eq!((status, fields(&problem)), (422, vec![field.to_owned()]), "{problem}");
        }
    }
}

on_each_database! {
    async fn a_cancelled_replay_stops_and_keeps_its_replayed_messages(kind: Database) {
        let service = refusing(kind).await;
        for number in 0..4 {
            failed(&service, sms(number)).await;
        }
        service.faults(Faults::default());
        let body = json!({"filter": {}, "rate_per_second": 0.1});
        let id = service.post("/dead-letters/replays", body).await["id"].as_str().expect("an id").to_owned();
        let path = format!("/dead-letters/replays/{id}");
        service.wait_for(&path, |replay| replay["replayed"] == 1).await;
        let (status, cancelled) = service.call("DELETE", &path, None).await;
        assert_eq!((status, &cancelled["status"], &cancelled["replayed"]), (200, &json!("cancelled"), &json!(1)), "{cancelled}");
        service.wait_for("/notifications?status=sent", |page| page["items"].as_array().map(Vec::len) == Some(1)).await;
        assert_eq!(service.get("/dead-letters").await["items"].as_array().map(Vec::len), Some(3));
        assert!(!service.get(&path).await["finished_at"].is_null());
    }
}

on_each_database! {
    async fn repeated_requests_with_one_key_make_one_replay(kind: Database) {
        let service = refusing(kind).await;
        let ask = || async {
            let request = service.http.post(service.url("/dead-letters/replays")).header("idempotency-key", "one");
            let answer = request.json(&json!({"filter": {"class": "gone"}})).send().await.expect("an answer");
            let location = answer.headers()["location"].to_str().expect("a path").to_owned();
            (answer.status().as_u16(), location, answer.json::<Value>().await.expect("JSON")["id"].clone())
        };
        let (first, second) = (ask().await, ask().await);
        assert_eq!(first, second);
        assert_eq!((first.0, first.1), (202, format!("/api/v1/dead-letters/replays/{}", first.2.as_str().expect("an id"))));
        assert_eq!(service.get("/dead-letters/replays").await["items"].as_array().map(Vec::len), Some(1));
    }
}

on_each_database! {
    async fn a_dead_letter_of_an_event_shows_its_body_and_is_not_a_message(kind: Database) {
        let service = refusing(kind).await;
        let new = NewDeadEvent {
            id: MessageId::new(), source: 2, subject: "orders.created".into(), key: None, name: None, body: b"{\"a\": 1".to_vec(), tries: 5,
            error: "it is no JSON".into(), received_at: Clock::System.now(),
        };
        let path = format!("/dead-letters/{}", new.id);
        repo::bury_event(&mut database(&service), &new, Clock::System.now()).expect("a dead letter");
        let letter = service.get(&path).await;
        assert_eq!((&letter["kind"], &letter["class"], &letter["channel"]), (&json!("event"), &json!("poison"), &Value::Null), "{letter}");
        assert_eq!((&letter["event"]["subject"], &letter["event"]["body"]), (&json!("orders.created"), &json!("{\"a\": 1")), "{letter}");
        assert_eq!(letter["message"], Value::Null, "{letter}");
        assert_eq!(service.get("/messages?status=failed").await["items"], json!([]));
        let (status, why) = service.call("POST", &format!("{path}/replay"), None).await;
        assert!(status == 409 && why["detail"].as_str().expect("why").contains("cannot be replayed"), "{why}");
        assert_eq!(service.call("DELETE", &path, None).await.0, 204);
        assert_eq!(service.call("GET", &path, None).await.0, 404);
    }
}
