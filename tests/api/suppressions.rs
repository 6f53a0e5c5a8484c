//! Suppressions: created, listed, lifted, imported and exported, and applied on every path that sends.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::ask::{ask, id_of, request, send};
use crate::on_each_database;
use crate::support::{Service, after};

const HOUR: Duration = Duration::from_secs(3600);

async fn client(service: &Service, number: u32, email: &str) -> String {
    let body = json!({"phone_number": format!("+79030000{number:03}"), "email": email});
    id_of(&service.post("/clients", body).await)
}

async fn suppress(service: &Service, body: Value) -> Value {
    service.post("/suppressions", body).await
}

/// Sends a mailing to all clients. Returns its counts, and the recipient and outcome of each message.
async fn mailing(service: &Service, fields: Value) -> (Value, Vec<(String, String)>) {
    let mut body = json!({"channel": "email", "subject": "x", "text": "hello", "ends_at": after(HOUR)});
    let map = body.as_object_mut().expect("an object");
    map.extend(fields.as_object().cloned().expect("an object"));
    map.retain(|_, value| !value.is_null());
    let id = id_of(&service.post("/mailings", body).await);
    let ended = service.wait_for(&format!("/mailings/{id}"), |mailing| mailing["status"] == "finished").await;
    let messages = service.get(&format!("/mailings/{id}/messages?limit=1000")).await;
    let shown = messages["items"].as_array().expect("messages").iter().map(|message| {
        let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
        (text("recipient"), format!("{} {}", text("status"), text("error")))
    });
    (ended["counts"].clone(), shown.collect())
}

async fn notification(service: &Service, body: Value) -> Value {
    let id = id_of(&service.post("/notifications", body).await);
    let is_final =
        |one: &Value| ["sent", "cancelled", "failed"].contains(&one["status"].as_str().unwrap_or_default());
    service.wait_for(&format!("/notifications/{id}"), is_final).await
}

on_each_database! {
    async fn a_suppression_is_created_once_read_listed_and_lifted(kind: Database) {
        let service = Service::start(kind).await;
        let body = json!({"channel": "email", "address": "Dora@Example.com", "reason": "bounced", "note": "550 5.1.1"});
        let made = ask(&service, "POST", "/suppressions", Some(body.clone())).await;
        let one = made.success(201);
        assert_eq!((&one["address"], &one["reason"], &one["group"]), (&json!("dora@example.com"), &json!("bounced"), &Value::Null));
        assert_eq!((&one["source"], &one["note"]), (&json!("api"), &json!("550 5.1.1")));
        assert_eq!(made.header("location"), format!("/api/v1/suppressions/{}", id_of(&one)));
        assert_eq!(ask(&service, "POST", "/suppressions", Some(body)).await.success(200), one, "once");
        assert_eq!(service.get(&format!("/suppressions/{}", id_of(&one))).await, one);
        let sms = suppress(&service, json!({"channel": "sms", "address": "+7 903 123-45-67", "group": "news"})).await;
        assert_eq!((&sms["address"], &sms["reason"]), (&json!("79031234567"), &json!("manual")));
        let ids = async |query: &str| {
            let page = service.get(&format!("/suppressions{query}")).await;
            page["items"].as_array().expect("items").iter().map(id_of).collect::<Vec<_>>()
        };
        assert_eq!(ids("").await, [id_of(&one), id_of(&sms)]);
        assert_eq!(ids("?channel=sms").await, [id_of(&sms)]);
        assert_eq!(ids("?reason=bounced").await, [id_of(&one)]);
        assert_eq!(ids("?group=news").await, [id_of(&sms)]);
        assert_eq!(ids("?channel=email&address=DORA%40example.com").await, [id_of(&one)]);
        assert_eq!(ids("?channel=email&address=nora%40example.com").await, [""; 0]);
        for query in ["?address=a%40b.co", "?channel=fax", "?reason=x", "?group=A", "?channel=sms&address=1"] {
            ask(&service, "GET", &format!("/suppressions{query}"), None).await.problem(422);
        }
        for (body, field) in [
            (json!({"channel": "email", "address": "nobody"}), "address"),
            (json!({"channel": "request", "address": "https://example.com"}), "channel"),
            (json!({"channel": "email"}), "address"),
            (json!({"channel": "email", "address": "a@b.co", "reason": "why"}), "reason"),
            (json!({"channel": "email", "address": "a@b.co", "group": "A B"}), "group"),
            (json!({"channel": "email", "address": "a@b.co", "source": ""}), "source"),
        ] {
            let problem = ask(&service, "POST", "/suppressions", Some(body)).await.problem(422);
            assert_eq!(problem["errors"][0]["field"], field);
        }
        let path = format!("/suppressions/{}", id_of(&one));
        assert_eq!(ask(&service, "DELETE", &path, None).await.status, 204);
        ask(&service, "DELETE", &path, None).await.problem(404);
        ask(&service, "GET", &path, None).await.problem(404);
    }
}

on_each_database! {
    async fn suppressions_apply_on_every_path_and_to_every_spelling(kind: Database) {
        let service = Service::start(kind).await;
        suppress(&service, json!({"channel": "email", "address": "dora@example.com", "reason": "unsubscribed"})).await;
        suppress(&service, json!({"channel": "email", "address": "anna@xn--mnchen-3ya.example", "reason": "bounced"})).await;
        client(&service, 1, "Dora@Example.com").await;
        client(&service, 2, "anna@münchen.example").await;
        client(&service, 3, "eva@example.com").await;
        let (counts, messages) = mailing(&service, json!({})).await;
        assert_eq!((&counts["sent"], &counts["cancelled"]), (&json!(1), &json!(2)), "{messages:?}");
        let why = |address: &str| {
            messages.iter().find(|(to, _)| to == address).map(|(_, why)| why.clone()).expect("a message")
        };
        assert_eq!(why("Dora@Example.com"), "cancelled suppressed: the address unsubscribed");
        assert_eq!(why("anna@münchen.example"), "cancelled suppressed: the address bounced");
        let (counts, _) = mailing(&service, json!({"transactional": true})).await;
        assert_eq!((&counts["sent"], &counts["cancelled"]), (&json!(2), &json!(1)), "transactional messages ignore unsubscriptions");

        let mail = |to: &str| json!({"channel": "email", "recipient": to, "subject": "x", "content": "x"});
        for (to, status) in [
            ("DORA@example.com", "cancelled"), ("anna@MÜNCHEN.example", "cancelled"), ("eva@example.com", "sent"),
        ] {
            assert_eq!(notification(&service, mail(to)).await["status"], status, "{to}");
        }
        let mut receipt = mail("dora@example.com");
        receipt["transactional"] = json!(true);
        assert_eq!(notification(&service, receipt).await["status"], "sent");
        let both = json!({"notifications": [mail("dora@example.com"), mail("eva@example.com")]});
        let batch = service.post("/notifications/batch", both).await;
        let path = format!("/batches/{}", batch["batch_id"].as_str().expect("an id"));
        let is_over = |batch: &Value| batch["counts"]["queued"] == 0 && batch["counts"]["sending"] == 0;
        let ended = service.wait_for(&path, is_over).await;
        assert_eq!((&ended["counts"]["sent"], &ended["counts"]["cancelled"]), (&json!(1), &json!(1)), "{ended}");
    }
}

on_each_database! {
    async fn clients_with_a_shared_address_get_one_message_of_a_mailing(kind: Database) {
        let service = Service::start(kind).await;
        for (number, email) in [(1, "pat@example.com"), (2, "pat@example.com"), (3, "PAT@example.com"), (4, "eva@example.com")] {
            client(&service, number, email).await;
        }
        for _ in 0..2 {
            let (counts, messages) = mailing(&service, json!({})).await;
            assert_eq!((&counts["sent"], &counts["cancelled"], &counts["total"]), (&json!(2), &json!(2), &json!(4)), "{messages:?}");
            let duplicates = messages.iter().filter(|(_, why)| why.starts_with("cancelled duplicate address"));
            assert_eq!(duplicates.count(), 2, "{messages:?}");
        }
        let (counts, _) = mailing(&service, json!({"channel": "sms", "subject": null})).await;
        assert_eq!(counts["sent"], 4, "phone numbers differ");
    }
}

on_each_database! {
    async fn an_opt_out_outlives_its_client_and_follows_its_address(kind: Database) {
        let service = Service::start(kind).await;
        let first = client(&service, 1, "pat@example.com").await;
        let path = format!("/clients/{first}/preferences");
        let out = json!({"groups": {"news": false}, "channels": {"email": false}});
        ask(&service, "PATCH", &path, Some(out)).await.success(200);
        assert_eq!(ask(&service, "DELETE", &format!("/clients/{first}"), None).await.status / 100, 2);
        client(&service, 1, "pat@example.com").await;
        let (counts, _) = mailing(&service, json!({})).await;
        assert_eq!((&counts["sent"], &counts["cancelled"]), (&json!(0), &json!(1)), "after it was deleted and imported again");

        let other = client(&service, 2, "other@example.com").await;
        let moved = json!({"email": "Pat@example.com", "phone_number": "+79030000009"});
        ask(&service, "PATCH", &format!("/clients/{other}"), Some(moved)).await.success(200);
        let path = format!("/clients/{other}/preferences");
        let shown = service.get(&path).await;
        assert_eq!((&shown["channels"]["email"], &shown["groups"]), (&json!(false), &json!({"news": false})));
        let (counts, _) = mailing(&service, json!({})).await;
        assert_eq!(counts["sent"], 0, "the address moved to another client");
        let wants = json!({"channels": {"email": true}, "groups": {"news": true}});
        let shown = ask(&service, "PATCH", &path, Some(wants)).await.success(200);
        assert_eq!((&shown["channels"]["email"], &shown["groups"]), (&json!(true), &json!({})));
        let (counts, messages) = mailing(&service, json!({"group": "news"})).await;
        assert_eq!(counts["sent"], 1, "its owner opted in: {messages:?}");
    }
}

on_each_database! {
    async fn an_export_can_be_imported(kind: Database) {
        let service = Service::start(kind).await;
        let file = "Channel,Address,Group,Reason,Since,Note\r\n\
            email,Dora@Example.com,,unsubscribed,2024-02-03T04:05:06Z,\"from, the old system\"\r\n\
            sms,+7 903 123-45-67,news,,,\r\n\
            ,eva@example.com,,,,\r\n\
            email,nobody,,why,yesterday,\r\n";
        let import = async |query: &str, file: String| {
            let path = format!("/suppressions/import{query}");
            send(request(&service, "POST", &path).header("content-type", "text/csv").body(file)).await
        };
        let report = import("?channel=email", file.into()).await.success(200);
        assert_eq!((&report["created"], &report["known"], &report["rejected_count"]), (&json!(3), &json!(0), &json!(1)), "{report}");
        let rejected: Vec<_> = report["rejected"].as_array().expect("a list").iter().map(|one| (&one["line"], &one["field"])).collect();
        assert_eq!(rejected, [(&json!(5), &json!("address")), (&json!(5), &json!("reason"))]);
        let list = service.get("/suppressions").await;
        let dora = &list["items"][0];
        assert_eq!((&dora["note"], &dora["source"]), (&json!("from, the old system"), &json!("import")));
        assert!(dora["since"].as_str().expect("a time").starts_with("2024-02-03T04:05:06"), "{dora}");
        assert_eq!((&list["items"][1]["reason"], &list["items"][1]["group"]), (&json!("imported"), &json!("news")));

        let exported = request(&service, "GET", "/suppressions").header("accept", "text/csv").send().await.expect("an answer");
        assert!(exported.headers()["content-type"].to_str().expect("a type").starts_with("text/csv"));
        let text = exported.text().await.expect("a file");
        assert_eq!(text.lines().count(), 4, "{text}");
        let report = import("", text.clone()).await.success(200);
        assert_eq!((&report["created"], &report["known"]), (&json!(0), &json!(3)), "{report}");
        for one in list["items"].as_array().expect("items") {
            ask(&service, "DELETE", &format!("/suppressions/{}", id_of(one)), None).await;
        }
        assert_eq!(import("", text).await.success(200)["created"], 3);
        let without = |page: Value| {
            let mut items = page["items"].as_array().expect("items").clone();
            items.iter_mut().for_each(|one| drop(one.as_object_mut().expect("an object").remove("id")));
            items
        };
        assert_eq!(without(service.get("/suppressions").await), without(list));
        for (query, file) in [("", "name\nx\n"), ("", "channel,reason\nemail,manual\n"), ("?reason=x", "address\n")] {
            import(query, file.into()).await.problem(422);
        }
    }
}
