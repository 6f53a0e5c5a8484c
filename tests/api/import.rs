//! Clients from CSV over HTTP.

use std::io;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::ask::{all_pages, fields, request, send, texts};
use crate::on_each_database;
use crate::support::Service;

async fn import(service: &Service, csv: impl Into<reqwest::Body>) -> Value {
    let request = request(service, "POST", "/clients/import").header("content-type", "text/csv");
    send(request.body(csv)).await.success(200)
}

fn rows(range: std::ops::Range<u64>, tag: &str) -> String {
    range.map(|n| format!("{},{tag},name{n}\n", 79_030_000_000 + n)).collect()
}

on_each_database! {
    async fn a_body_of_tens_of_thousands_of_rows_is_taken_as_a_stream(kind: Database) {
        let service = Service::start(kind).await;
        let csv = format!("phone_number,tag,name\n{}", rows(0..30_000, "all"));
        // cut anywhere, in the middle of rows and of cells
        let chunks: Vec<_> = csv.as_bytes().chunks(4093).map(|part| Ok::<_, io::Error>(part.to_vec())).collect();
        assert!(chunks.len() > 100);
        let body = reqwest::Body::wrap_stream(stream::iter(chunks));
        let report = import(&service, body).await;
        assert_eq!(report, json!({"created": 30_000, "updated": 0, "rejected": [], "rejected_count": 0}));
        let found = all_pages(&service, "/clients?tag=all", 1000).await;
        assert_eq!(found.len(), 30_000);
        let last = found.last().expect("clients");
        assert_eq!(last["phone_number"], "79030029999");
        assert_eq!(last["attributes"], json!({"name": "name29999"}));
        assert_eq!(last["mobile_operator_code"], "903");
        let again = import(&service, csv).await;
        assert_eq!(again, json!({"created": 0, "updated": 30_000, "rejected": [], "rejected_count": 0}));
    }
}

on_each_database! {
    async fn wrong_rows_are_rejected_with_their_line_and_field_and_the_rest_goes_on(kind: Database) {
        let service = Service::start(kind).await;
        service.post("/clients", json!({"phone_number": "79161234567", "external_id": "crm-1"})).await;
        let csv = "phone_number,tag,email,external_id,name\n\
            79030000001,vip,anna@example.com,crm-2,Anna\n\
            7903,vip,,crm-3,Boris\n\
            79030000002,vip,nope,crm-4,Vera\n\
            79030000003,\"two\nlines\",also nope,,Gleb\n\
            \n\
            79030000004,vip\n\
            79030000005,vip,,crm-1,Dina\n\
            \"79030000006\",\"a \"\"quoted\"\" tag\",,,\"Eva, the first\"\r\n";
        let report = import(&service, csv).await;
        assert_eq!((&report["created"], &report["updated"], &report["rejected_count"]), (&json!(2), &json!(0), &json!(5)));
        let rejected: Vec<(u64, &str)> = report["rejected"].as_array().expect("rejections").iter().map(|r| {
            assert!(r["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{r}");
            (r["line"].as_u64().expect("a line"), r["field"].as_str().expect("a field"))
        }).collect();
        assert_eq!(rejected, [
            (3, "phone_number"), (4, "email"), (5, "tag"), (5, "email"), (8, "row"), (9, "external_id"),
        ]);
        let clients = all_pages(&service, "/clients", 1000).await;
        assert_eq!(texts(&clients, "phone_number"), ["79161234567", "79030000001", "79030000006"]);
        assert_eq!(clients[2]["attributes"]["name"], "Eva, the first");
        assert_eq!(clients[2]["tag"], "a \"quoted\" tag");
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
        assert_eq!(lines, (0..1000).map(|n| 2 + 2 * n).collect::<Vec<_>>(), "the first ones, in order");
        assert_eq!((&report["created"], &report["updated"]), (&json!(1), &json!(1249)));
    }
}

on_each_database! {
    async fn a_column_overwrites_an_empty_cell_clears_and_what_has_no_column_stays(kind: Database) {
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
    async fn a_body_of_another_kind_or_without_columns_is_refused(kind: Database) {
        let service = Service::start(kind).await;
        for kind in ["application/json", "text/plain", "text/csv; charset=windows-1251", "multipart/form-data"] {
            let request = request(&service, "POST", "/clients/import").header("content-type", kind);
            send(request.body("phone_number\n79030000001\n")).await.problem(415);
        }
        send(request(&service, "POST", "/clients/import").body("phone_number\n79030000001\n")).await.problem(415);
        for (csv, named) in [
            ("", "phone_number"),
            ("\n\n", "phone_number"),
            ("tag,name\nvip,Anna\n", "phone_number"),
            ("79030000001\n79030000002\n", "phone_number"),
            ("phone_number,phone_number\n1,2\n", "phone_number"),
            ("phone_number,id\n1,2\n", "id"),
            ("phone_number,created_at\n1,2\n", "created_at"),
            ("phone_number,first name\n1,2\n", "first name"),
        ] {
            let request = request(&service, "POST", "/clients/import").header("content-type", "text/csv");
            let problem = send(request.body(csv)).await.problem(422);
            assert!(fields(&problem).iter().any(|field| field == named), "{csv:?}: {problem}");
        }
        let open_quote = "phone_number,tag\n79030000001,vip\n\"79030000002,vip\n";
        let request = request(&service, "POST", "/clients/import").header("content-type", "text/csv");
        assert_eq!(fields(&send(request.body(open_quote)).await.problem(422)), ["line 3"]);
        assert!(all_pages(&service, "/clients", 10).await.len() <= 1, "of the last one its first row at most");
    }
}

on_each_database! {
    async fn an_import_goes_through_while_another_one_is_still_being_sent(kind: Database) {
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
        assert!(!slow.is_finished(), "the first one still waits for the rest of its body");

        parts.send(Ok(rows(20_000..21_000, "slow"))).await.expect("a reader");
        drop(parts);
        let answer = slow.await.expect("its task").expect("an answer");
        assert_eq!(answer.status(), 200);
        let report: Value = answer.json().await.expect("a report");
        assert_eq!((done(&report), &report["rejected_count"]), (21_000, &json!(0)));
        assert_eq!(all_pages(&service, "/clients", 1000).await.len(), 22_000, "each number once");
    }
}
