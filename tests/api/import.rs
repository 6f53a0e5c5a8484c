//! Clients from CSV over HTTP.

use std::io;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api::ask::{all_pages, fields, request, send, texts};
use crate::on_each_database;
use crate::support::Service;

async fn import(service: &Service, csv: impl Into<reqwest::Body>) -> Value {
    let request = request(service, "POST", "/clients/import").header("content-type", "text/csv");
    send(request.body(csv)).await.success(200)
}

/// Returns the line and field of each rejection or warning, and checks that it has a reason.
pub fn places<'r>(report: &'r Value, list: &str) -> Vec<(u64, &'r str)> {
    let place = |complaint: &'r Value| {
        assert!(complaint["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{complaint}");
        (complaint["line"].as_u64().expect("a line"), complaint["field"].as_str().expect("a field"))
    };
    report[list].as_array().expect("a list").iter().map(place).collect()
}

fn rows(range: std::ops::Range<u64>, tag: &str) -> String {
    range.map(|n| format!("{},{tag},name{n}\n", 79_030_000_000 + n)).collect()
}

on_each_database! {
    async fn a_body_of_tens_of_thousands_of_rows_is_imported_as_a_stream(kind: Database) {
        let service = Service::start(kind).await;
        let csv = format!("phone_number,tag,name\n{}", rows(0..30_000, "all"));
        // the chunks end in the middle of rows and cells
        let chunks: Vec<_> = csv.as_bytes().chunks(4093).map(|part| Ok::<_, io::Error>(part.to_vec())).collect();
        assert!(chunks.len() > 100);
        let body = reqwest::Body::wrap_stream(stream::iter(chunks));
        let counts = |report: &Value| ["created", "updated", "rejected_count", "warning_count"].map(|name| report[name].as_u64());
        let report = import(&service, body).await;
        assert_eq!(counts(&report), [Some(30_000), Some(0), Some(0), Some(0)], "{report}");
        assert_eq!((&report["rejected"], &report["warnings"], &report["preview"]), (&json!([]), &json!([]), &Value::Null));
        let found = all_pages(&service, "/clients?tag=all", 1000).await;
        assert_eq!(found.len(), 30_000);
        let last = found.last().expect("clients");
        assert_eq!(last["phone_number"], "79030029999");
        assert_eq!(last["attributes"], json!({"name": "name29999"}));
        assert_eq!(last["mobile_operator_code"], "903");
        let again = import(&service, csv).await;
        assert_eq!(counts(&again), [Some(0), Some(30_000), Some(0), Some(0)], "{again}");
    }
}

on_each_database! {
    async fn invalid_rows_are_rejected_with_their_line_and_field_and_the_rest_is_imported(kind: Database) {
        let service = Service::start(kind).await;
        service.post("/clients", json!({"phone_number": "79161234567", "external_id": "crm-1"})).await;
        let csv = "phone_number,tag,email,external_id,name\n\
            79030000001,vip,anna@example.com,crm-2,Anna\n\
            7903,vip,,,Boris\n\
            79030000002,vip,nope,crm-4,Vera\n\
            79030000003,\"two\nlines\",also nope,,Gleb\n\
            \n\
            79030000004,vip\n\
            79030000005,vip,,crm-1,Dina\n\
            \"79030000006\",\"a \"\"quoted\"\" tag\",,,\"Eva, the first\"\r\n";
        let report = import(&service, csv).await;
        // an invalid cell of an optional field is omitted and its row is imported
        assert_eq!((&report["created"], &report["updated"], &report["rejected_count"]), (&json!(4), &json!(0), &json!(3)));
        assert_eq!(places(&report, "rejected"), [(3, "phone_number"), (8, "row"), (9, "external_id")]);
        assert_eq!(places(&report, "warnings"), [(4, "email"), (5, "tag"), (5, "email")]);
        let clients = all_pages(&service, "/clients", 1000).await;
        assert_eq!(
            texts(&clients, "phone_number"),
            ["79161234567", "79030000001", "79030000002", "79030000003", "79030000006"]
        );
        assert_eq!(clients[2]["email"], Value::Null);
        assert_eq!(clients[4]["attributes"]["name"], "Eva, the first");
        assert_eq!(clients[4]["tag"], "a \"quoted\" tag");
    }
}

on_each_database! {
    async fn the_first_thousand_rejections_are_listed_and_all_are_counted(kind: Database) {
        let service = Service::start(kind).await;
        let mut csv = String::from("phone_number\n");
        for n in 0..2500 {
            csv.push_str(if n % 2 == 0 { "nope\n" } else { "79030000001\n" });
        }
        let report = import(&service, csv).await;
        let listed = report["rejected"].as_array().expect("rejections");
        assert_eq!((listed.len(), &report["rejected_count"]), (1000, &json!(1250)));
        let lines: Vec<_> = listed.iter().map(|r| r["line"].as_u64().expect("a line")).collect();
        assert_eq!(lines, (0..1000).map(|n| 2 + 2 * n).collect::<Vec<_>>(), "the first rejections, in order");
        assert_eq!((&report["created"], &report["updated"]), (&json!(1), &json!(1249)));
    }
}

on_each_database! {
    async fn a_column_overwrites_an_empty_cell_clears_and_other_fields_stay(kind: Database) {
        let service = Service::start(kind).await;
        let anna = json!({"phone_number": "79030000001", "tag": "vip", "email": "a@example.com", "external_id": "crm-1",
            "attributes": {"name": "Anna", "city": "Omsk"}});
        service.post("/clients", anna).await;
        let report = import(&service, "name,phone_number,tag,bonus\nAnja,79030000001,,5\n").await;
        assert_eq!((&report["created"], &report["updated"]), (&json!(0), &json!(1)));
        let now = &all_pages(&service, "/clients", 10).await[0];
        assert_eq!((&now["tag"], &now["email"], &now["external_id"]), (&json!(null), &json!("a@example.com"), &json!("crm-1")));
        assert_eq!(now["attributes"], json!({"name": "Anja", "city": "Omsk", "bonus": "5"}));
    }
}

on_each_database! {
    async fn a_body_of_another_type_or_without_columns_is_refused(kind: Database) {
        let service = Service::start(kind).await;
        for kind in ["application/json", "text/plain", "text/csv; charset=klingon", "multipart/form-data"] {
            let request = request(&service, "POST", "/clients/import").header("content-type", kind);
            send(request.body("phone_number\n79030000001\n")).await.problem(415);
        }
        send(request(&service, "POST", "/clients/import").body("phone_number\n79030000001\n")).await.problem(415);
        for (csv, named) in [
            ("", "phone_number"),
            ("\n\n", "phone_number"),
            ("tag,name\nvip,Anna\n", "phone_number"),
            ("79030000001\n79030000002\n", "phone_number"),
        ] {
            let request = request(&service, "POST", "/clients/import").header("content-type", "text/csv");
            let problem = send(request.body(csv)).await.problem(422);
            assert!(fields(&problem).iter().any(|field| field == named), "{csv:?}: {problem}");
        }
        assert_eq!(all_pages(&service, "/clients", 10).await, Vec::<Value>::new());
    }
}

on_each_database! {
    async fn an_import_finishes_while_another_one_is_still_being_sent(kind: Database) {
        let service = Service::start(kind).await;
        let (parts, body) = mpsc::channel::<Result<String, io::Error>>(1);
        let body = stream::unfold(body, |mut body| async { body.recv().await.map(|part| (part, body)) });
        let slow = tokio::spawn(
            request(&service, "POST", "/clients/import")
                .header("content-type", "text/csv")
                .body(reqwest::Body::wrap_stream(body.boxed()))
                .send(),
        );
        parts.send(Ok("phone_number,tag,name\n".into())).await.expect("a reader");
        parts.send(Ok(rows(0..20_000, "slow"))).await.expect("a reader");
        service.wait_for("/clients?tag=slow&limit=1", |page| page["items"][0].is_object()).await;

        let report = import(&service, format!("phone_number,tag,name\n{}", rows(19_000..22_000, "quick"))).await;
        let done = |report: &Value| report["created"].as_u64().expect("a count") + report["updated"].as_u64().expect("a count");
        assert_eq!((done(&report), &report["rejected_count"]), (3000, &json!(0)));
        assert!(!slow.is_finished(), "the first import still waits for the rest of its body");

        parts.send(Ok(rows(20_000..21_000, "slow"))).await.expect("a reader");
        drop(parts);
        let answer = slow.await.expect("its task").expect("an answer");
        assert_eq!(answer.status(), 200);
        let report: Value = answer.json().await.expect("a report");
        assert_eq!((done(&report), &report["rejected_count"]), (21_000, &json!(0)));
        assert_eq!(all_pages(&service, "/clients", 1000).await.len(), 22_000, "every number is stored once");
    }
}
