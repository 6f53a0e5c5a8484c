//! The creation of mailings, and its refusals.

use std::time::Duration;

use diesel::prelude::*;
use fanfare::db::schema::pending_mailing;
use fanfare::db::types::MailingId;
use serde_json::{Value, json};

use crate::api::ask::{ask, database, fields, id_of, wrong_fields};
use crate::on_each_database;
use crate::support::{Service, after};

/// Returns the time a minute from now.
fn soon() -> String {
    after(Duration::from_secs(60))
}

/// Returns the time an hour from now.
fn later() -> String {
    after(Duration::from_secs(3600))
}

fn pending_rows(service: &Service, id: &str) -> Vec<i32> {
    let id: MailingId = id.parse().expect("a UUID");
    pending_mailing::table
        .filter(pending_mailing::mailing_id.eq(id))
        .select(pending_mailing::status)
        .load(&mut database(service))
        .expect("the pending mailings")
}

on_each_database! {
    async fn a_mailing_starts_now_by_default(kind: Database) {
        let service = Service::start(kind).await;
        let ends_at = soon();
        let answer = ask(&service, "POST", "/mailings", Some(json!({"text": "hello", "ends_at": ends_at}))).await;
        let mailing = answer.success(201);
        let id = id_of(&mailing);
        assert_eq!(answer.header("location"), format!("/api/v1/mailings/{id}"));
        assert_eq!((&mailing["status"], &mailing["channel"], &mailing["priority"]), (&json!("running"), &json!("sms"), &json!("normal")));
        assert_eq!((&mailing["starts_at"], &mailing["ends_at"]), (&mailing["created_at"], &json!(ends_at)));
        assert_eq!(mailing["filter"], json!({}), "everyone");
        assert_eq!(pending_rows(&service, &id), [0; 0], "an immediate mailing is never pending");
        service.finished(&id).await;
        assert_eq!(service.get(&format!("/mailings/{id}")).await["status"], "finished");
    }
}

on_each_database! {
    async fn only_a_later_mailing_is_pending_until_it_starts_or_is_deleted(kind: Database) {
        let service = Service::start(kind).await;
        let later_one = |starts_at: String| json!({"text": "hello", "starts_at": starts_at, "ends_at": after(Duration::from_secs(7200))});
        let mailing = service.post("/mailings", later_one(later())).await;
        assert_eq!((&mailing["status"], &mailing["started_at"]), (&json!("pending"), &Value::Null));
        let id = id_of(&mailing);
        assert_eq!(pending_rows(&service, &id), [1], "created");

        let past = service.post("/mailings", json!({
            "text": "hello", "starts_at": "2020-01-01T00:00:00+03:00", "ends_at": soon(),
        })).await;
        assert_eq!((&past["status"], &past["starts_at"]), (&json!("running"), &json!("2019-12-31T21:00:00.000000Z")));
        assert_eq!(pending_rows(&service, &id_of(&past)), [0; 0]);

        let path = format!("/mailings/{id}");
        ask(&service, "PATCH", &path, Some(json!({"starts_at": after(Duration::from_millis(1))}))).await.success(200);
        service.finished(&id).await;
        assert_eq!(pending_rows(&service, &id), [0; 0], "a finished mailing is not pending");

        for (method, verb) in [("DELETE", ""), ("POST", "/cancel")] {
            let id = id_of(&service.post("/mailings", later_one(later())).await);
            let answer = ask(&service, method, &format!("/mailings/{id}{verb}"), None).await;
            assert!([200, 204].contains(&answer.status), "{}", answer.text);
            assert_eq!(pending_rows(&service, &id), [0; 0], "after {method}");
        }
    }
}

on_each_database! {
    async fn the_aliases_of_start_and_end_are_accepted(kind: Database) {
        let service = Service::start(kind).await;
        let (start, end) = (later(), after(Duration::from_secs(7200)));
        let mailing = service.post("/mailings", json!({
            "text": "hello", "created_at": start, "finished_at": end,
        })).await;
        assert_eq!((&mailing["starts_at"], &mailing["ends_at"]), (&json!(start), &json!(end)));
        assert_eq!((&mailing["status"], &mailing["finished_at"]), (&json!("pending"), &Value::Null), "responses use the aliases for other fields");
        assert_ne!(mailing["created_at"], json!(start));
        let path = format!("/mailings/{}", id_of(&mailing));
        let end = after(Duration::from_secs(9000));
        let patched = ask(&service, "PATCH", &path, Some(json!({"finished_at": end}))).await.success(200);
        assert_eq!(patched["ends_at"], json!(end));
        let twice = json!({"text": "hello", "starts_at": start, "created_at": start, "ends_at": end});
        assert_eq!(wrong_fields(&service, "/mailings", twice).await, ["starts_at"]);
    }
}

on_each_database! {
    async fn an_invalid_window_is_refused(kind: Database) {
        let service = Service::start(kind).await;
        for (starts_at, ends_at) in [
            (Value::Null, json!("2020-01-01T00:00:00Z")),
            (json!("2019-01-01T00:00:00Z"), json!("2020-01-01T00:00:00Z")),
            (json!(after(Duration::from_secs(20))), json!(after(Duration::from_secs(10)))),
            (json!("2099-01-01T00:00:00Z"), json!("2099-01-01T00:00:00Z")),
            (json!("2099-01-01T00:00:00Z"), json!("2099-01-01T03:00:00+03:00")),
            (Value::Null, json!("2099-01-01")),
            (Value::Null, json!("2099-01-01T00:00:00")),
            (Value::Null, json!("soon")),
            (Value::Null, json!(4_070_908_800_u64)),
            (Value::Null, json!("10000-01-01T00:00:00Z")),
            (Value::Null, json!("9999-12-31T23:59:59-23:59")),
            (Value::Null, json!(null)),
        ] {
            for path in ["/mailings", "/mailings/preview"] {
                if path.ends_with("preview") && ends_at.is_null() {
                    continue; // a preview needs no end
                }
                let mut body = json!({"text": "hello", "ends_at": ends_at});
                if !starts_at.is_null() {
                    body["starts_at"] = starts_at.clone();
                }
                assert_eq!(wrong_fields(&service, path, body.clone()).await, ["ends_at"], "{path} {body}");
            }
        }
        let no_end = json!({"text": "hello"});
        assert_eq!(wrong_fields(&service, "/mailings", no_end).await, ["ends_at"]);
        let no_start = json!({"text": "hello", "starts_at": "1969-12-31T00:00:00Z", "ends_at": soon()});
        assert_eq!(wrong_fields(&service, "/mailings", no_start).await, ["starts_at"]);
        assert_eq!(service.get("/mailings/stats").await["mailings"]["total"], 0, "no mailing was created");
    }
}

on_each_database! {
    async fn a_text_has_one_to_a_thousand_characters(kind: Database) {
        let service = Service::start(kind).await;
        let body = |text: &str| json!({"text": text, "starts_at": later(), "ends_at": after(Duration::from_secs(7200))});
        // the limit counts characters, not bytes
        let thousand = "ы".repeat(1000);
        assert_eq!(service.post("/mailings", body(&thousand)).await["text"], json!(thousand));
        assert_eq!(service.post("/mailings", body(&"😀".repeat(1000))).await["text"], json!("😀".repeat(1000)));
        for text in [&"x".repeat(1001), &"ы".repeat(1001), "", " \n\t ", "a\0b"] {
            assert_eq!(wrong_fields(&service, "/mailings", body(text)).await, ["text"], "{} characters", text.len());
        }
        assert_eq!(wrong_fields(&service, "/mailings", json!({"ends_at": soon()})).await, ["text"]);
        assert_eq!(wrong_fields(&service, "/mailings", json!({"text": 5, "ends_at": soon()})).await, ["text"]);
    }
}

on_each_database! {
    async fn a_placeholder_that_no_client_can_fill_is_refused_at_once(kind: Database) {
        let service = Service::start(kind).await;
        service.post("/clients", json!({"phone_number": "79031234567", "attributes": {"name": "Anna"}})).await;
        let body = |text: &str| json!({"text": text, "starts_at": later(), "ends_at": after(Duration::from_secs(7200))});
        let problem = ask(&service, "POST", "/mailings", Some(body("Dear {{ nmae }}"))).await.problem(422);
        let reason = problem["errors"][0]["reason"].as_str().expect("a reason");
        assert!(reason.contains("`nmae`") && reason.contains("name"), "{reason}");
        for text in ["{{ name", "{{ name | nonsense }}", "{% include 'x' %}", "{{ range(9) }}", "{% if %}"] {
            assert_eq!(wrong_fields(&service, "/mailings", body(text)).await, ["text"], "{text}");
        }
        let fine = service.post("/mailings", body("Dear {{ name | upper }} at {{ phone_number }}")).await;
        let path = format!("/mailings/{}", id_of(&fine));
        let problem = ask(&service, "PATCH", &path, Some(json!({"text": "Dear {{ nmae }}"}))).await.problem(422);
        assert_eq!(fields(&problem), ["text"]);
        // an attribute that is added later makes its placeholder valid
        service.post("/clients", json!({"phone_number": "79031234568", "attributes": {"nmae": "x"}})).await;
        ask(&service, "PATCH", &path, Some(json!({"text": "Dear {{ nmae }}"}))).await.success(200);
    }
}

on_each_database! {
    async fn all_invalid_fields_of_a_mailing_are_named_at_once(kind: Database) {
        let service = Service::start(kind).await;
        let wrong = wrong_fields(&service, "/mailings", json!({
            "text": "", "channel": "fax", "priority": "urgent", "starts_at": "x", "ends_at": "y",
            "filter": {"mobile_operator_code": ["903", "x"], "tag": [""]},
        })).await;
        assert_eq!(wrong, [
            "channel", "ends_at", "filter.mobile_operator_code[1]", "filter.tag[0]", "priority", "starts_at", "text",
        ]);
        for (body, named) in [
            (json!({"text": "x", "ends_at": soon(), "nope": 1}), "nope"),
            (json!({"text": "x", "ends_at": soon(), "status": "finished"}), "status"),
            (json!({"text": "x", "ends_at": soon(), "channel": 1}), "channel"),
            (json!({"text": "x", "ends_at": soon(), "priority": 0}), "priority"),
            (json!({"text": "x", "ends_at": soon(), "channel": "email"}), "subject"),
            (json!({"text": "x", "ends_at": soon(), "subject": "s"}), "subject"),
            (json!({"text": "x", "ends_at": soon(), "channel": "push", "html": "<p>"}), "html"),
            (json!({"text": "x", "ends_at": soon(), "channel": "email", "subject": "s", "html": "{{ nobody_has_this }}"}), "html"),
            (json!({"text": "x".repeat(2001), "ends_at": soon(), "channel": "discord"}), "text"),
            (json!({"text": "x", "ends_at": soon(), "priority": "HIGH"}), "priority"),
        ] {
            assert_eq!(wrong_fields(&service, "/mailings", body.clone()).await, [named], "{body}");
        }
        for priority in ["high", "normal", "low"] {
            let body = json!({"text": "x", "ends_at": soon(), "priority": priority, "channel": "sms"});
            assert_eq!(service.post("/mailings", body).await["priority"], priority);
        }
    }
}

on_each_database! {
    async fn a_mailings_own_rate_may_change_while_it_runs(kind: Database) {
        let service = Service::start(kind).await;
        service.import(3, "vip").await;
        let body = json!({"text": "hello", "ends_at": later(), "filter": "vip", "rate_per_second": 0.001});
        let mailing = ask(&service, "POST", "/mailings", Some(body)).await.success(201);
        let path = format!("/mailings/{}", id_of(&mailing));
        assert_eq!(mailing["rate_per_second"], 0.001);
        assert_eq!(service.get(&path).await["status"], "running", "its first message is sent in a quarter of an hour");
        let same = ask(&service, "PATCH", &path, Some(json!({"ends_at": later()}))).await.success(200);
        assert_eq!(same["rate_per_second"], 0.001, "absent fields stay");
        let free = ask(&service, "PATCH", &path, Some(json!({"rate_per_second": null}))).await.success(200);
        assert_eq!(free["rate_per_second"], Value::Null);
        assert_eq!(service.finished(&id_of(&mailing)).await["sent"], 3);
    }
}

on_each_database! {
    async fn an_invalid_rate_is_refused_by_its_name(kind: Database) {
        let service = Service::start(kind).await;
        for rate in [json!(0), json!(-5), json!(0.0009), json!(1_000_001), json!("10"), json!([10])] {
            let body = json!({"text": "hello", "ends_at": soon(), "rate_per_second": rate});
            let answer = ask(&service, "POST", "/mailings", Some(body)).await;
            assert_eq!(answer.status, 422, "{rate}: {}", answer.text);
            assert!(answer.text.contains("rate_per_second"), "{rate}: {}", answer.text);
        }
    }
}

on_each_database! {
    async fn a_preview_uses_the_lower_of_the_two_rates(kind: Database) {
        let service = Service::start_with(kind, &[("channels.rate_per_second", "50")]).await;
        service.import(100, "vip").await;
        for (own, rate, seconds) in [(json!(10), 10.0, 10.0), (json!(500), 50.0, 2.0), (Value::Null, 50.0, 2.0)] {
            let body = json!({"filter": "vip", "rate_per_second": own});
            let preview = service.post("/mailings/preview", body).await;
            assert_eq!((preview["rate_per_second"].as_f64(), preview["estimated_seconds"].as_f64()), (Some(rate), Some(seconds)));
        }
    }
}
