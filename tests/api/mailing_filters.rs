//! The audience of a mailing: every form of the filter, checked at the provider.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::ask::{all_pages, ask, fields, id_of, request, send, texts, wrong_fields};
use crate::on_each_database;
use crate::support::{Service, after};

/// Clients of three operators and abroad, with tags in several spellings, including a tag that looks like a code.
const CLIENTS: [(&str, &[&str]); 7] = [
    ("79030000001", &["VIP"]),
    ("79030000002", &["new", "Vip"]),
    ("79040000003", &["vip"]),
    ("79040000004", &[]),
    ("79160000005", &["vip", "new", "old"]),
    ("4915112345678", &["new"]),
    ("4915112345679", &["903"]),
];

async fn with_clients(kind: crate::support::Database) -> Service {
    let service = Service::start(kind).await;
    for (number, tags) in CLIENTS {
        service.post("/clients", json!({"phone_number": number, "tags": tags})).await;
    }
    service
}

/// Returns each form of the filter with the indices of the matching clients above.
fn forms() -> Vec<(Value, Vec<usize>)> {
    vec![
        (Value::Null, vec![0, 1, 2, 3, 4, 5, 6]),
        (json!({}), vec![0, 1, 2, 3, 4, 5, 6]),
        (json!({"mobile_operator_code": [], "tag": []}), vec![0, 1, 2, 3, 4, 5, 6]),
        (json!({"mobile_operator_code": ["903"]}), vec![0, 1]),
        (json!({"mobile_operator_code": ["904", "903", "903"]}), vec![0, 1, 2, 3]),
        (json!({"tag": ["vip"]}), vec![0, 1, 2, 4]),
        (json!({"tag": ["new"]}), vec![1, 4, 5]),
        (json!({"tags": ["old"]}), vec![4]),
        (json!({"tag": ["old", "new"]}), vec![1, 4, 5]),
        (json!({"mobile_operator_code": ["916", "904"], "tag": ["old", "new"]}), vec![4]),
        (json!({"mobile_operator_code": ["903"], "tag": ["old", "vip"], "has": ["sms"]}), vec![0, 1]),
        (json!({"tag": ["vip", "new"]}), vec![0, 1, 2, 4, 5]),
        (json!({"mobile_operator_code": ["903", "904"], "tag": ["vip"]}), vec![0, 1, 2]),
        (json!({"mobile_operator_code": ["903", "904"], "tag": ["vip", "new"]}), vec![0, 1, 2]),
        (json!({"mobile_operator_code": ["999"]}), vec![]),
        (json!({"tag": ["VIP"]}), vec![0, 1, 2, 4]),
        (json!("903"), vec![0, 1]),
        (json!(" 904 "), vec![2, 3]),
        (json!("vip"), vec![0, 1, 2, 4]),
        (json!("nobody"), vec![]),
        (json!({"tag": ["903"]}), vec![6]),
    ]
}

on_each_database! {
    async fn each_form_of_the_filter_reaches_exactly_its_audience(kind: Database) {
        let service = with_clients(kind).await;
        for (filter, places) in forms() {
            let mut expected: Vec<&str> = places.iter().map(|place| CLIENTS[*place].0).collect();
            expected.sort_unstable();
            let mut body = json!({"text": "hello", "ends_at": after(Duration::from_secs(60))});
            if !filter.is_null() {
                body["filter"] = filter.clone();
            }
            let preview = service.post("/mailings/preview", body.clone()).await;
            assert_eq!(preview["recipients"], places.len(), "{filter}");
            let mailing = service.post("/mailings", body).await;
            assert_eq!(mailing["counts"]["total"], places.len(), "{filter}");
            let counts = service.finished(&id_of(&mailing)).await;
            assert_eq!((&counts["sent"], &counts["total"]), (&json!(places.len()), &json!(places.len())), "{filter}");
            let messages = all_pages(&service, &format!("/mailings/{}/messages", id_of(&mailing)), 100).await;
            let mut reached = texts(&messages, "recipient");
            reached.sort();
            assert_eq!(reached, expected, "{filter}");
        }
        let stats = service.sandbox.stats();
        let all: usize = forms().iter().map(|(_, places)| places.len()).sum();
        assert_eq!((stats.received, stats.distinct), (all as u64, all as u64), "every message arrived once");
    }
}

on_each_database! {
    async fn the_same_client_in_two_parts_of_a_filter_gets_one_message(kind: Database) {
        let service = with_clients(kind).await;
        let filter = json!({"mobile_operator_code": ["903", "903", " 903 "], "tag": ["vip", "VIP", "new"]});
        let body = json!({"text": "hello", "filter": filter, "ends_at": after(Duration::from_secs(60))});
        let mailing = service.post("/mailings", body).await;
        assert_eq!(mailing["filter"], json!({"mobile_operator_code": ["903"], "tag": ["VIP", "new"]}));
        assert_eq!(service.finished(&id_of(&mailing)).await["sent"], 2);
    }
}

on_each_database! {
    async fn an_invalid_filter_is_refused(kind: Database) {
        let service = with_clients(kind).await;
        let many: Vec<String> = (0..201).map(|n| format!("t{n}")).collect();
        for (filter, named) in [
            (json!([]), "filter"),
            (json!([["903"], ["vip"]]), "filter"),
            (json!(5), "filter"),
            (json!(true), "filter"),
            (json!(""), "filter.tag[0]"),
            (json!("a\0b"), "filter"),
            (json!({"labels": ["vip"]}), "filter.labels"),
            (json!({"tag": "vip"}), "filter.tag"),
            (json!({"tag": null}), "filter.tag"),
            (json!({"tag": [5]}), "filter.tag[0]"),
            (json!({"tag": [null]}), "filter.tag[0]"),
            (json!({"mobile_operator_code": [903]}), "filter.mobile_operator_code[0]"),
            (json!({"mobile_operator_code": ["90a"]}), "filter.mobile_operator_code[0]"),
            (json!({"tag": many}), "filter.tag"),
        ] {
            for path in ["/mailings", "/mailings/preview"] {
                let body = json!({"text": "hello", "filter": filter, "ends_at": after(Duration::from_secs(60))});
                assert_eq!(wrong_fields(&service, path, body).await, [named], "{path} {filter}");
            }
        }
        let twice = r#"{"text": "x", "ends_at": "2099-01-01T00:00:00Z", "filter": {"tag": ["vip"], "tag": ["new"]}}"#;
        let request = request(&service, "POST", "/mailings").header("content-type", "application/json");
        let problem = send(request.body(twice)).await.problem(422);
        assert_eq!(fields(&problem), ["filter.tag"]);
        assert_eq!(service.get("/mailings/stats").await["mailings"]["total"], 0);
        let later = json!({"text": "x", "starts_at": after(Duration::from_secs(60)), "ends_at": after(Duration::from_secs(90))});
        let path = format!("/mailings/{}", id_of(&service.post("/mailings", later).await));
        let problem = ask(&service, "PATCH", &path, Some(json!({"filter": []}))).await.problem(422);
        assert_eq!(fields(&problem), ["filter"]);
    }
}
