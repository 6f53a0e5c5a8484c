//! Declared attributes: values are validated and converted on every input path, and stored values are converted.

use serde_json::{Value, json};

use crate::api::ask::{all_pages, ask, fields, id_of, texts, wrong_fields};
use crate::on_each_database;
use crate::support::Service;

async fn declare(service: &Service, name: &str, kind: &str) -> Value {
    service.post("/attributes", json!({"name": name, "type": kind})).await;
    let path = format!("/attributes/{name}");
    service.wait_for(&path, |found| found["conversion"]["is_running"] == false).await
}

fn client(n: u32, attributes: Value) -> Value {
    json!({"phone_number": format!("7903{n:07}"), "attributes": attributes})
}

on_each_database! {
    async fn attributes_are_declared_listed_changed_and_deleted(kind: Database) {
        let service = Service::start(kind).await;
        let body = json!({"name": "member", "type": "boolean", "label": "Is a member"});
        let made = ask(&service, "POST", "/attributes", Some(body.clone())).await;
        let member = made.success(201);
        assert_eq!((&member["type"], &member["label"]), (&json!("boolean"), &json!("Is a member")));
        assert_eq!(made.header("location"), "/api/v1/attributes/member");
        ask(&service, "POST", "/attributes", Some(body)).await.problem(409);
        declare(&service, "bonus", "number").await;
        assert_eq!(texts(&all_pages(&service, "/attributes", 1).await, "name"), ["bonus", "member"]);
        let changed = ask(&service, "PATCH", "/attributes/bonus", Some(json!({"type": "text", "label": "Points"}))).await.success(200);
        assert_eq!((&changed["type"], &changed["label"]), (&json!("text"), &json!("Points")));
        let cleared = ask(&service, "PATCH", "/attributes/bonus", Some(json!({"label": null}))).await.success(200);
        assert_eq!(cleared["label"], json!(null));
        assert_eq!(ask(&service, "DELETE", "/attributes/bonus", None).await.status, 204);
        for (method, body) in [("GET", None), ("DELETE", None), ("PATCH", Some(json!({"type": "date"})))] {
            ask(&service, method, "/attributes/bonus", body).await.problem(404);
        }
        for (body, wrong) in [
            (json!({"name": "1st", "type": "text"}), "name"),
            (json!({"name": "tag", "type": "text"}), "name"),
            (json!({"name": "x", "type": "money"}), "type"),
            (json!({"name": "x", "type": "text", "label": " "}), "label"),
            (json!({"name": "x"}), "type"),
        ] {
            assert_eq!(wrong_fields(&service, "/attributes", body).await, [wrong]);
        }
    }
}

on_each_database! {
    async fn values_of_a_declared_attribute_are_converted_or_refused(kind: Database) {
        let service = Service::start(kind).await;
        for (name, kind) in [("member", "boolean"), ("bonus", "number"), ("born", "date"), ("code", "text")] {
            declare(&service, name, kind).await;
        }
        let anna = json!({"member": "нет", "bonus": "1 250,7", "born": "31.12.1990", "code": 7, "other": "007"});
        let anna = service.post("/clients", client(1, anna)).await;
        let expected = json!({"member": false, "bonus": 1250.7, "born": "1990-12-31", "code": "7", "other": "007"});
        assert_eq!(anna["attributes"], expected);
        let path = format!("/clients/{}", id_of(&anna));
        let patched = ask(&service, "PATCH", &path, Some(json!({"attributes": {"member": "yes", "bonus": null}}))).await.success(200);
        assert_eq!((&patched["attributes"]["member"], &patched["attributes"]["bonus"]), (&json!(true), &json!(null)));
        for (name, value) in [("member", json!("maybe")), ("bonus", json!("much")), ("bonus", json!(true)), ("born", json!("12/01/2026"))] {
            let wrong = wrong_fields(&service, "/clients", client(2, json!({name: value.clone()}))).await;
            assert_eq!(wrong, [format!("attributes.{name}")]);
            let problem = ask(&service, "PATCH", &path, Some(json!({"attributes": {name: value}}))).await.problem(422);
            assert_eq!(fields(&problem), [format!("attributes.{name}")]);
        }

        let csv = "phone_number,member,bonus,name\n\
            79030000003,да,\"250,7\",Boris\n79030000004,нет,,Vera\n79030000005,perhaps,1 000,Gleb\n79030000006,-,x,Dina\n";
        let report = service.import_csv(csv).await.expect("an import");
        assert_eq!((&report["created"], &report["rejected_count"]), (&json!(4), &json!(0)), "{report}");
        let stored = all_pages(&service, "/clients", 1000).await;
        let of = |number: &str| stored.iter().find(|client| client["phone_number"] == number).expect("a client")["attributes"].clone();
        assert_eq!(of("79030000003"), json!({"member": true, "bonus": 250.7, "name": "Boris"}));
        assert_eq!(of("79030000004"), json!({"member": false, "name": "Vera"}));
        assert_eq!(of("79030000005"), json!({"bonus": 1000, "name": "Gleb"}), "without the value of the wrong type");
        assert_eq!(of("79030000006"), json!({"member": false, "name": "Dina"}));
    }
}

on_each_database! {
    async fn existing_values_are_converted_in_steps(kind: Database) {
        let service = Service::start(kind).await;
        let rows: String = (0..1200).map(|n| {
            let member = ["да", "нет", "perhaps", ""][n % 4];
            format!("{},{member},{n}\n", 79_030_000_000_u64 + n as u64)
        }).collect();
        service.import_csv(format!("phone_number,member,n\n{rows}")).await.expect("an import");
        let member = declare(&service, "member", "boolean").await;
        assert_eq!(member["conversion"], json!({"is_running": false, "clients": 1200, "converted": 600, "unconverted": 300}));
        let stored = all_pages(&service, "/clients", 1000).await;
        for (n, client) in stored.iter().enumerate() {
            let expected = [json!(true), json!(false), json!("perhaps"), Value::Null][n % 4].clone();
            assert_eq!(client["attributes"]["member"], expected);
            assert_eq!(client["attributes"]["n"], n.to_string(), "the other values stay");
        }
        // and back again
        let path = "/attributes/member";
        ask(&service, "PATCH", path, Some(json!({"type": "text"}))).await.success(200);
        let member = service.wait_for(path, |found| found["conversion"]["is_running"] == false).await;
        assert_eq!(member["conversion"], json!({"is_running": false, "clients": 1200, "converted": 600, "unconverted": 0}));
        let first = &service.get("/clients?limit=1").await["items"][0];
        assert_eq!(first["attributes"]["member"], "true");
    }
}

on_each_database! {
    async fn typed_values_are_exported_and_come_back_with_their_types(kind: Database) {
        let service = Service::start(kind).await;
        declare(&service, "member", "boolean").await;
        declare(&service, "bonus", "number").await;
        let anna = service.post("/clients", client(1, json!({"member": false, "bonus": -250.7}))).await;
        let file = crate::api::ask::request(&service, "GET", "/clients").header("accept", "text/csv").send().await.expect("an answer");
        let file = file.text().await.expect("a file");
        ask(&service, "DELETE", &format!("/clients/{}", id_of(&anna)), None).await;
        service.import_csv(file).await.expect("an import");
        assert_eq!(service.get("/clients").await["items"][0]["attributes"], anna["attributes"]);
    }
}

on_each_database! {
    async fn texts_see_a_boolean_and_a_number_instead_of_a_files_strings(kind: Database) {
        let service = Service::start(kind).await;
        declare(&service, "member", "boolean").await;
        declare(&service, "bonus", "number").await;
        let rows = [("false", "250.7"), ("0", "\"250,7\""), ("no", "1 250"), ("нет", "7"), ("-", "7"), ("да", "7"), ("perhaps", "much")];
        let rows = rows.iter().zip(1..).map(|((member, bonus), n)| format!("7903000000{n},{member},{bonus}\n"));
        let report = service.import_csv(format!("phone_number,member,bonus\n{}", rows.collect::<String>())).await.expect("a report");
        assert_eq!((&report["created"], &report["warning_count"]), (&json!(7), &json!(2)), "{report}");
        assert_eq!((&report["warnings"][0]["line"], &report["warnings"][0]["field"]), (&json!(8), &json!("member")));
        let text = "{% if member %}M{% else %}N{% endif %} {{ bonus | default(0) | round(1) }}";
        let mut shown = Vec::new();
        for client in all_pages(&service, "/clients", 1000).await {
            let tag = client["id"].as_str().expect("an id").replace('-', "");
            ask(&service, "PATCH", &format!("/clients/{}", id_of(&client)), Some(json!({"tag": tag}))).await.success(200);
            let preview = service.post("/mailings/preview", json!({"text": text, "filter": {"tag": [tag]}})).await;
            shown.push(preview["sample"][0]["text"].as_str().unwrap_or_default().to_owned());
        }
        assert_eq!(shown, ["N 250.7", "N 250.7", "N 1250.0", "N 7.0", "N 7.0", "M 7.0", "N 0.0"]);
    }
}
