//! Lists as CSV files: complete, streamed, safe in a spreadsheet, and importable in the case of clients.

use std::collections::BTreeMap;

use csv::ReaderBuilder;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::api::ask::{Answer, all_pages, ask, fields, id_of, request, send, texts};
use crate::on_each_database;
use crate::support::{Service, after};

async fn export(service: &Service, path: &str) -> Answer {
    send(request(service, "GET", path).header("accept", "text/csv")).await
}

/// Returns the rows of a file by column name.
fn rows(file: &Answer) -> Vec<BTreeMap<String, String>> {
    assert_eq!((file.status, file.header("content-type")), (200, "text/csv; charset=utf-8"), "{}", file.text);
    assert!(file.text.is_empty() || file.text.ends_with("\r\n"));
    let mut reader = ReaderBuilder::new().from_reader(file.text.as_bytes());
    reader.deserialize().map(|row| row.expect("a row")).collect()
}

/// Returns the clients without the fields that each import sets.
fn without_import_fields(clients: &[Value]) -> Vec<Value> {
    let mut clients = clients.to_vec();
    for client in clients.iter_mut().filter_map(Value::as_object_mut) {
        for given in ["id", "created_at", "updated_at"] {
            client.remove(given);
        }
    }
    clients.sort_by_key(|client| client["phone_number"].as_str().map(str::to_owned));
    clients
}

async fn delete_all(service: &Service, clients: &[Value]) {
    for client in clients {
        ask(service, "DELETE", &format!("/clients/{}", id_of(client)), None).await;
    }
}

/// Generates realistic cells and cells that break naive CSV files.
fn cell() -> impl Strategy<Value = String> {
    let odd = "[=+@'\",;-][=+@'\",;a-zя0-9\\n-]{0,6}[a-zя0-9\"']";
    prop_oneof![odd, "[a-zA-Zа-я]{1,8}", "[0-9]{1,5}", "-?[0-9]{1,3}[.,][0-9]"]
}

fn client() -> impl Strategy<Value = Value> {
    let word = || cell().prop_map(|text| text.replace(char::is_control, " "));
    let line = move || proptest::option::of(word());
    let tags = prop::collection::vec(word(), 0..4);
    let attributes = prop::collection::btree_map("[a-h]_x", cell(), 0..5);
    (tags, line(), attributes, any::<bool>()).prop_map(|(tags, token, attributes, is_moscow)| {
        let zone = is_moscow.then_some("Europe/Moscow");
        json!({"tags": tags, "push_token": token, "timezone": zone, "attributes": attributes})
    })
}

on_each_database! {
    async fn exported_clients_import_as_the_same_clients(kind: Database) {
        let service = Service::start(kind).await;
        let mut runner = TestRunner::deterministic();
        for n in 0..150 {
            let mut new = client().new_tree(&mut runner).expect("a client").current();
            new["phone_number"] = json!(format!("7903{n:07}"));
            new["external_id"] = json!(format!("-crm {n}"));
            new["email"] = json!(format!("+pat{n}@example.com"));
            service.post("/clients", new).await;
        }
        let before = all_pages(&service, "/clients", 1000).await;
        let file = export(&service, "/clients").await;
        assert_eq!(file.header("content-disposition"), "attachment; filename=\"clients.csv\"");
        let found = rows(&file);
        assert_eq!(found.len(), 150);
        let is_harmless = |cell: &String| !cell.starts_with(['=', '@']) && (!cell.starts_with(['+', '-']) || cell[1..].replace([',', '.'], "").parse::<u64>().is_ok());
        assert!(found.iter().flat_map(BTreeMap::values).all(is_harmless), "{}", file.text);

        let again = service.import_csv(file.text.clone()).await.expect("an import");
        assert_eq!((&again["updated"], &again["rejected_count"]), (&json!(150), &json!(0)), "{again}");
        assert_eq!(all_pages(&service, "/clients", 1000).await, before, "nothing has changed");

        delete_all(&service, &before).await;
        let anew = service.import_csv(file.text).await.expect("an import");
        assert_eq!((&anew["created"], &anew["rejected_count"]), (&json!(150), &json!(0)), "{anew}");
        assert_eq!(without_import_fields(&all_pages(&service, "/clients", 1000).await), without_import_fields(&before));
    }
}

on_each_database! {
    async fn an_export_has_all_matches_and_a_column_for_each_attribute(kind: Database) {
        let service = Service::start(kind).await;
        let many: String = (0..2500).map(|n| format!("{},all,{n}\n", 79_030_000_000_u64 + n)).collect();
        service.import_csv(format!("phone_number,tag,n\n{many}")).await.expect("an import");
        let vip = json!({"phone_number": "79161234567", "tag": "vip", "attributes": {"bonus": 250.5, "member": true, "z": "x"}});
        service.post("/clients", vip).await;
        let all = rows(&export(&service, "/clients").await);
        assert_eq!(all.len(), 2501);
        assert_eq!(all.iter().filter(|row| !row["n"].is_empty()).count(), 2500);
        let file = export(&service, "/clients?tag=vip").await;
        let header = "phone_number,mobile_operator_code,tags,timezone,locale,email,push_token,external_id,bonus,member,z\r\n";
        assert_eq!(file.text, format!("{header}79161234567,916,vip,,,,,,250.5,true,x\r\n"));
        // numbers and booleans keep their types after an export and import
        service.import_csv(file.text).await.expect("an import");
        let stored = &service.get("/clients?tag=vip").await["items"][0];
        assert_eq!(stored["attributes"], json!({"bonus": 250.5, "member": true, "z": "x"}));

        let numbers = |file: Answer| rows(&file).iter().map(|row| row["phone_number"].clone()).collect::<Vec<_>>();
        assert_eq!(numbers(export(&service, "/clients?limit=1200").await).len(), 1200);
        let page = service.get("/clients?limit=1000").await;
        let cursor = page["next_cursor"].as_str().expect("a cursor");
        let rest = numbers(export(&service, &format!("/clients?cursor={cursor}&limit=2")).await);
        assert_eq!(rest, ["79030001000", "79030001001"]);
        assert_eq!(rows(&export(&service, "/clients?tag=nobody").await).len(), 0);
        for (query, field) in [("limit=0", "limit"), ("cursor=x", "cursor"), ("tag=%00", "tag"), ("bogus=1", "bogus")] {
            let problem = export(&service, &format!("/clients?{query}")).await.problem(422);
            assert_eq!(fields(&problem), [field]);
        }
        // JSON is the default and wins when it is preferred
        for accepted in ["*/*", "application/json", "application/json, text/csv;q=0.5", "image/png"] {
            send(request(&service, "GET", "/clients").header("accept", accepted)).await.success(200);
        }
    }
}

on_each_database! {
    async fn lists_of_messages_are_also_exported(kind: Database) {
        let service = Service::start(kind).await;
        service.import(1500, "all").await;
        let id = service.mail("all", std::time::Duration::from_secs(600)).await;
        service.finished(&id).await;
        let path = format!("/mailings/{id}/messages");
        let file = export(&service, &path).await;
        assert_eq!(file.header("content-disposition"), "attachment; filename=\"messages.csv\"");
        let listed = all_pages(&service, &path, 1000).await;
        let found = rows(&file);
        assert_eq!(found.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), texts(&listed, "id"));
        assert_same(&found[0], &listed[0]);
        assert_eq!(rows(&export(&service, &format!("{path}?status=sent")).await).len(), 1500);
        assert_eq!(rows(&export(&service, &format!("{path}?status=failed")).await).len(), 0);
        export(&service, &format!("/mailings/{}/messages", uuid::Uuid::nil())).await.problem(404);
        assert_eq!(rows(&export(&service, "/messages?limit=1001").await).len(), 1001);

        let notification = |n: u32| json!({"channel": "sms", "recipient": format!("+7903000{n:04}"), "content": format!("=HYPERLINK(\"{n}\")"),
            "scheduled_at": after(std::time::Duration::from_secs(3600)), "metadata": {"n": n}, "data": {"big": 12345678901234567890123_u128.to_string()}});
        let batch: Vec<_> = (0..7).map(notification).collect();
        let batch = service.post("/notifications/batch", json!({"notifications": batch})).await;
        let path = format!("/batches/{}/notifications", batch["batch_id"].as_str().expect("an id"));
        let listed = all_pages(&service, &path, 1000).await;
        let found = rows(&export(&service, &path).await);
        assert_eq!(found.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), texts(&listed, "id"));
        assert_eq!((found[3]["content"].as_str(), found[3]["metadata"].as_str()), ("'=HYPERLINK(\"3\")", "{\"n\":3}"));
        assert_same(&found[0], &listed[0]);
        let newest = rows(&export(&service, "/notifications?limit=3").await);
        assert_eq!(newest.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), texts(&listed, "id").into_iter().rev().take(3).collect::<Vec<_>>());
        assert_eq!(fields(&export(&service, "/notifications?page=2").await.problem(422)), ["page"]);
        export(&service, &format!("/batches/{}/notifications", uuid::Uuid::nil())).await.problem(404);
    }
}

/// Checks that a row equals an item of the list, field by field.
fn assert_same(row: &BTreeMap<String, String>, item: &Value) {
    for (name, value) in item.as_object().expect("an object") {
        let cell = match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(row.get(name).map(|cell| cell.trim_start_matches('\'')), Some(cell.as_str()), "{name}");
    }
}

on_each_database! {
    async fn clients_that_do_not_read_hold_no_database_connection(kind: Database) {
        let service = Service::start(kind).await;
        let long = "x".repeat(1000);
        let many: String = (0..3000).map(|n| format!("{},{long}\n", 79_030_000_000_u64 + n)).collect();
        service.import_csv(format!("phone_number,long\n{many}")).await.expect("an import");
        let mut open = Vec::new();
        for _ in 0..20 {
            // the head has arrived, and the body is not read
            let answer = request(&service, "GET", "/clients").header("accept", "text/csv").send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            open.push(answer);
        }
        service.post("/clients", json!({"phone_number": "79161234567"})).await;
        service.get("/clients").await;
        let first = open.pop().expect("an answer").text().await.expect("a file");
        assert!(first.lines().count() >= 3001);
    }
}
