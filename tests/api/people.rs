//! People: their data exported and erased.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::ask::{ask, id_of, request, send};
use crate::on_each_database;
use crate::support::{Service, after};

const HOUR: Duration = Duration::from_secs(3600);
const LISTS: &[&str] = &[
    "/clients",
    "/messages?limit=1000",
    "/notifications?limit=1000",
    "/events",
    "/suppressions",
    "/dead-letters",
];

/// Creates a person with data of every kind and another client. Returns the ids of the person and of the mailing.
async fn known_person(service: &Service) -> (String, String) {
    let body = json!({"phone_number": "+79031234567", "email": "Pat@example.com", "external_id": "crm-7",
        "attributes": {"name": "Patricia"}});
    let keyed = request(service, "POST", "/clients").header("Idempotency-Key", "of-pat").json(&body);
    let id = id_of(&send(keyed).await.success(201));
    service.post("/clients", json!({"phone_number": "+79031234568", "email": "stranger@example.com"})).await;
    let mailing = json!({"channel": "email", "subject": "x", "text": "Dear {{ name | default('friend') }}", "ends_at": after(HOUR)});
    let mailing = id_of(&service.post("/mailings", mailing).await);
    service.wait_for(&format!("/mailings/{mailing}"), |mailing| mailing["status"] == "finished").await;
    for body in [
        json!({"channel": "sms", "client_id": id, "content": "Patricia, your code is 7"}),
        json!({"channel": "email", "recipient": "pat@example.com", "subject": "Patricia", "content": "for pat@example.com"}),
        json!({"channel": "in_app", "client_id": id, "content": "Patricia, hello", "metadata": {"who": "Patricia"}}),
    ] {
        let sent = id_of(&service.post("/notifications", body).await);
        service.wait_for(&format!("/notifications/{sent}"), |one| one["status"] == "sent").await;
    }
    service
        .post("/templates", json!({"name": "paid", "channel": "sms", "text": "{{ name }} paid {{ sum }}"}))
        .await;
    let step = json!({"channel": "sms", "template": "paid", "target": "user"});
    service.post("/routes", json!({"event": "order.paid", "deliveries": [step]})).await;
    let event =
        json!({"event": "order.paid", "user_target": "crm-7", "payload": {"sum": 5, "card": "of Patricia"}});
    let event = service.post("/events", event).await["event_id"].as_str().expect("an id").to_owned();
    let over = |event: &Value| event["notifications"][0]["status"] == "sent";
    service.wait_for(&format!("/events/{event}"), over).await;
    service
        .post("/suppressions", json!({"channel": "email", "address": "pat@example.com", "reason": "manual"}))
        .await;
    (id, mailing)
}

on_each_database! {
    async fn the_export_of_a_person_is_complete(kind: Database) {
        let service = Service::start_with(kind, &[("in_app.base_url", "")]).await;
        let (id, mailing) = known_person(&service).await;
        let person = service.get(&format!("/clients/{id}/export")).await;
        assert_eq!((&person["client"]["email"], &person["client"]["attributes"]["name"]), (&json!("Pat@example.com"), &json!("Patricia")));
        assert_eq!((&person["suppressions"][0]["address"], &person["preferences"]["channels"]["sms"]), (&json!("pat@example.com"), &json!(true)));
        let messages = person["messages"].as_array().expect("messages");
        let texts: Vec<&str> = messages.iter().filter_map(|one| one["content"].as_str()).collect();
        assert_eq!(texts, ["Patricia, your code is 7", "for pat@example.com", "Patricia, hello", "Patricia paid 5"]);
        assert_eq!(messages.iter().filter(|one| one["mailing_id"] == mailing.as_str()).count(), 1);
        assert!(messages.iter().all(|one| one["status"] == "sent"), "{messages:?}");
        assert_eq!((&person["events"][0]["payload"]["card"], &person["events"][1]), (&json!("of Patricia"), &Value::Null));
        assert_eq!(person["inbox"].as_array().map(Vec::len), Some(1));
        assert!(!person.to_string().contains("stranger"), "{person}");
        let nobody = "0198c2d0-0000-7000-8000-000000000001";
        ask(&service, "GET", &format!("/clients/{nobody}/export"), None).await.problem(404);
        ask(&service, "DELETE", &format!("/clients/{nobody}"), None).await.problem(404);
    }
}

on_each_database! {
    async fn erasing_a_person_keeps_the_counts(kind: Database) {
        let service = Service::start_with(kind, &[("in_app.base_url", "")]).await;
        let (id, mailing) = known_person(&service).await;
        let later = json!({"channel": "sms", "client_id": id, "content": "Patricia, later", "scheduled_at": after(HOUR)});
        let later = id_of(&service.post("/notifications", later).await);
        let counts = service.get(&format!("/mailings/{mailing}")).await["counts"].clone();
        let answer = ask(&service, "DELETE", &format!("/clients/{id}"), None).await.success(200);
        let erased = json!({"messages": 6, "events": 1, "inbox": 1, "answers": 1, "suppressions": 1});
        assert_eq!(answer, json!({"client_id": id, "erased": erased}));
        ask(&service, "GET", &format!("/clients/{id}/export"), None).await.problem(404);
        assert_eq!(service.get(&format!("/notifications/{later}")).await["status"], "cancelled");
        assert_eq!(service.get(&format!("/mailings/{mailing}")).await["counts"], counts);
        for list in LISTS {
            let shown = service.get(list).await.to_string();
            for trace in ["Patricia", "at@example", "79031234567", "crm-7"] {
                assert!(!shown.contains(trace), "{trace} in {list}: {shown}");
            }
        }
        let all = service.get("/messages?limit=1000").await;
        assert_eq!(all["items"].as_array().map(Vec::len), Some(7), "{all}");
        assert!(all.to_string().contains("stranger@example.com"), "{all}");

        // the address stays suppressed, and the stored responses of the person's keys are gone
        let suppressed = service.get("/suppressions?channel=email&address=PAT@example.com").await;
        assert_eq!((&suppressed["items"][0]["reason"], &suppressed["items"][0]["address"]), (&json!("manual"), &Value::Null));
        let body = json!({"phone_number": "+79031234567", "email": "Pat@example.com", "external_id": "crm-7",
            "attributes": {"name": "Patricia"}});
        let again = send(request(&service, "POST", "/clients").header("Idempotency-Key", "of-pat").json(&body)).await;
        assert_eq!(again.problem(422)["errors"][0]["field"], "Idempotency-Key");
        id_of(&service.post("/clients", body).await);
        let mailing = json!({"channel": "email", "subject": "x", "text": "x", "ends_at": after(HOUR)});
        let mailing = id_of(&service.post("/mailings", mailing).await);
        let ended = service.wait_for(&format!("/mailings/{mailing}"), |one| one["status"] == "finished").await;
        assert_eq!((&ended["counts"]["sent"], &ended["counts"]["cancelled"]), (&json!(1), &json!(1)));
    }
}

on_each_database! {
    async fn waiting_messages_to_an_erased_person_are_cancelled(kind: Database) {
        let service = Service::start_with(kind, &[("sms.base_url", "http://127.0.0.1:9"), ("retry.first_delay", "2s")]).await;
        let id = id_of(&service.post("/clients", json!({"phone_number": "+79031234567"})).await);
        let mailing = id_of(&service.post("/mailings", json!({"text": "x", "ends_at": after(HOUR)})).await);
        let path = format!("/mailings/{mailing}/messages");
        let tried = |all: &Value| all["items"][0]["attempts"].as_i64() >= Some(1);
        service.wait_for(&format!("{path}?status=queued"), tried).await;
        assert_eq!(ask(&service, "DELETE", &format!("/clients/{id}"), None).await.success(200)["erased"]["messages"], 1);
        let ended = service.wait_for(&format!("/mailings/{mailing}"), |one| one["status"] == "finished").await;
        assert_eq!((&ended["counts"]["cancelled"], &ended["counts"]["total"]), (&json!(1), &json!(1)), "{ended}");
        let message = service.get(&path).await["items"][0].clone();
        assert_eq!((&message["recipient"], &message["status"]), (&json!(""), &json!("cancelled")), "{message}");
    }
}
