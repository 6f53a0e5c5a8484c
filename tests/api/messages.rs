//! Messages and their outcomes.

use std::time::Duration;

use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::api::ask::{all_pages, ask, id_of, texts};
use crate::on_each_database;
use crate::support::{Database, Service};

const MINUTE: Duration = Duration::from_secs(60);
const EACH: u32 = 7;

/// Creates a mailing to [`EACH`] clients for each status of their messages, and returns the ids by the status. The
/// retry is an hour away, so messages that failed once keep waiting.
async fn one_mailing_for_each_status(kind: Database) -> (Service, Vec<(&'static str, String)>) {
    let service = Service::start_with(kind, &[("retry.first_delay", "3600s")]).await;
    service.import(EACH, "all").await;
    let mut made = Vec::new();
    let error = Faults { error_rate: 1.0, ..Faults::default() };
    for (status, faults, window) in [
        ("sent", Faults::default(), MINUTE),
        ("failed", Faults { permanent_rate: 1.0, ..Faults::default() }, MINUTE),
        ("expired", error, MINUTE),
        ("cancelled", error, 120 * MINUTE),
        ("queued", error, 120 * MINUTE),
        ("sending", Faults { hang_rate: 1.0, ..Faults::default() }, 120 * MINUTE),
    ] {
        service.faults(faults);
        let id = service.mail("all", window).await;
        if status == "sending" {
            let path = format!("/mailings/{id}");
            service.wait_for(&path, |mailing| mailing["counts"]["sending"] == EACH).await;
        } else {
            // no message may still be in flight, because the next faults would affect it
            let reached = if status == "cancelled" { "queued" } else { status };
            let are_there = |list: &Value| {
                let items = list["items"].as_array().expect("items");
                items.len() == EACH as usize && items.iter().all(|message| message["status"] == reached)
            };
            service.wait_for(&format!("/mailings/{id}/messages"), are_there).await;
        }
        if status == "cancelled" {
            ask(&service, "POST", &format!("/mailings/{id}/cancel"), None).await.success(200);
            service.finished(&id).await;
        }
        made.push((status, id));
    }
    (service, made)
}

on_each_database! {
    async fn messages_are_listed_by_each_status_of_one_mailing_and_of_all(kind: Database) {
        let (service, made) = one_mailing_for_each_status(kind).await;
        for (status, id) in &made {
            let of_all = all_pages(&service, &format!("/messages?status={status}"), 3).await;
            let of_one = all_pages(&service, &format!("/mailings/{id}/messages?status={status}"), 3).await;
            assert_eq!((of_all.len(), of_one.len()), (EACH as usize, EACH as usize), "{status}");
            for message in of_all.iter().chain(&of_one) {
                assert_eq!((&message["status"], &message["mailing_id"]), (&json!(status), &json!(id)));
                assert_eq!((&message["channel"], &message["priority"]), (&json!("sms"), &json!("normal")));
                let over = ["sent", "failed", "expired", "cancelled"].contains(status);
                assert_eq!(message["finished_at"].is_string(), over, "{message}");
                assert_eq!(message["due_at"].is_string(), *status == "queued", "{message}");
                assert_eq!(message["error"].is_null(), ["sent", "sending"].contains(status), "{message}");
            }
            let mut recipients = texts(&of_one, "recipient");
            recipients.sort();
            let expected: Vec<String> = (0..EACH).map(|n| (79_030_000_000_u64 + u64::from(n)).to_string()).collect();
            assert_eq!(recipients, expected, "{status}");
            for (other, _) in made.iter().filter(|(other, _)| other != status) {
                let none = all_pages(&service, &format!("/mailings/{id}/messages?status={other}"), 3).await;
                assert_eq!(none, [Value::Null; 0], "{other} messages in the mailing of {status} ones");
            }
        }
        // messages without a row are only in the mailing's own list
        let with_rows = all_pages(&service, "/messages", 4).await;
        assert_eq!(with_rows.len(), 5 * EACH as usize);
    }
}

on_each_database! {
    async fn the_aliases_of_the_statuses_are_accepted(kind: Database) {
        let (service, _) = one_mailing_for_each_status(kind).await;
        for (theirs, ours) in [("created", "queued"), ("succeeded", "sent"), ("failed", "failed")] {
            let found = service.get(&format!("/messages?status={theirs}")).await;
            assert_eq!(found, service.get(&format!("/messages?status={ours}")).await, "{theirs}");
            assert_eq!(found["items"].as_array().expect("items").len(), EACH as usize);
        }
    }
}

on_each_database! {
    async fn a_message_in_flight_is_shown_as_sending_without_invented_fields(kind: Database) {
        let service = Service::start(kind).await;
        service.import(3, "all").await;
        service.faults(Faults { hang_rate: 1.0, ..Faults::default() });
        let mailing = service.mail("all", 60 * MINUTE).await;
        let list = service.wait_for("/messages?status=sending", |list| list["items"][2].is_object()).await;
        let message = &list["items"][0];
        let shown = service.get(&format!("/messages/{}", id_of(message))).await;
        assert_eq!((&shown["status"], &shown["attempts"], &shown["mailing_id"]), (&json!("sending"), &json!(0), &json!(mailing)));
        assert_eq!(shown["attempt_log"], json!([]));
        assert_eq!((&shown["recipient"], &shown["id"]), (&message["recipient"], &message["id"]));
        for field in ["due_at", "finished_at", "provider_id", "error"] {
            assert_eq!(shown[field], Value::Null, "{field}");
        }
        let counts = &service.get(&format!("/mailings/{mailing}")).await["counts"];
        assert_eq!((&counts["sending"], &counts["queued"], &counts["total"]), (&json!(3), &json!(0), &json!(3)));
    }
}

on_each_database! {
    async fn a_message_shows_all_its_attempts(kind: Database) {
        let retries = [("retry.first_delay", "20ms"), ("retry.factor", "1"), ("retry.limit", "20")];
        let service = Service::start_with(kind, &retries).await;
        service.import(1, "all").await;
        service.faults(Faults { error_rate: 1.0, ..Faults::default() });
        let id = service.mail("all", MINUTE).await;
        let waiting = service.wait_for(&format!("/mailings/{id}/messages"), |list| list["items"][0]["attempts"].as_i64() >= Some(3)).await;
        service.faults(Faults::default());
        service.finished(&id).await;
        let message = service.get(&format!("/messages/{}", id_of(&waiting["items"][0]))).await;
        assert_eq!((&message["status"], &message["error"]), (&json!("sent"), &Value::Null));
        let log = message["attempt_log"].as_array().expect("attempts");
        assert_eq!(message["attempts"], log.len());
        assert_eq!(service.sandbox.stats().requests, log.len() as u64);
        let (delivered, failed) = log.split_last().expect("attempts");
        assert!(failed.len() >= 3);
        for (n, attempt) in log.iter().enumerate() {
            assert_eq!(attempt["number"], n + 1);
            assert!(attempt["at"].is_string() && attempt["duration_ms"].as_i64() >= Some(0), "{attempt}");
        }
        for attempt in failed {
            assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &json!(500)));
            assert!(attempt["error"].as_str().is_some_and(|error| error.contains("500")), "{attempt}");
        }
        assert_eq!((&delivered["outcome"], &delivered["status_code"], &delivered["error"]), (&json!("delivered"), &json!(200), &Value::Null));
        assert!(texts(log, "at").is_sorted());
        assert_eq!(message["finished_at"], delivered["at"]);
    }
}

on_each_database! {
    async fn an_undelivered_message_has_a_reason(kind: Database) {
        let retries = [("retry.first_delay", "20ms"), ("retry.limit", "2"), ("channels.timeout", "200ms")];
        let service = Service::start_with(kind, &retries).await;
        service.post("/clients", json!({"phone_number": "79030000001", "tag": "all"})).await;
        service.post("/clients", json!({"phone_number": "79160000002", "attributes": {"name": "Boris"}})).await;
        for (faults, attempts, outcome, code, why) in [
            (Faults { permanent_rate: 1.0, ..Faults::default() }, 1, "failed", json!(400), "400"),
            (Faults { error_rate: 1.0, ..Faults::default() }, 3, "failed", json!(500), "gave up after 3 attempts"),
            (Faults { hang_rate: 1.0, ..Faults::default() }, 3, "failed", Value::Null, "no answer within 0.2 s"),
            (Faults { drop_rate: 1.0, ..Faults::default() }, 3, "failed", Value::Null, "connection broke"),
            (Faults { garbage_rate: 1.0, ..Faults::default() }, 3, "failed", json!(200), "cannot be read"),
        ] {
            service.faults(faults);
            let id = service.mail("all", MINUTE).await;
            service.finished(&id).await;
            let list = service.get(&format!("/mailings/{id}/messages?status=failed")).await;
            let message = service.get(&format!("/messages/{}", id_of(&list["items"][0]))).await;
            let log = message["attempt_log"].as_array().expect("attempts");
            assert_eq!((log.len(), &message["attempts"]), (attempts, &json!(attempts)), "{message}");
            let last = &log[attempts - 1];
            assert_eq!((&last["outcome"], &last["status_code"]), (&json!(outcome), &code), "{message}");
            for said in [&message["error"], &last["error"]] {
                assert!(said.as_str().is_some_and(|said| said.contains(why)), "{why}: {message}");
            }
        }
        // a text that cannot be rendered for a client is not sent
        service.faults(Faults::default());
        let body = json!({"text": "Dear {{ name }}", "ends_at": crate::support::after(MINUTE)});
        let id = id_of(&service.post("/mailings", body).await);
        let counts = service.finished(&id).await;
        assert_eq!((&counts["sent"], &counts["failed"]), (&json!(1), &json!(1)));
        let list = service.get(&format!("/mailings/{id}/messages?status=failed")).await;
        let message = service.get(&format!("/messages/{}", id_of(&list["items"][0]))).await;
        assert_eq!((&message["attempts"], &message["recipient"]), (&json!(0), &json!("79030000001")));
        assert!(message["error"].as_str().is_some_and(|error| error.contains("`name`")), "{message}");
    }
}
