//! Lists: keyset pagination, filters, and refused parameters.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::api::ask::{all_pages, ask, fields, texts};
use crate::on_each_database;
use crate::support::{Service, after};

on_each_database! {
    async fn clients_are_listed_once_each_in_order(kind: Database) {
        let service = Service::start(kind).await;
        for n in 0..25 {
            let code = if n % 2 == 0 { "903" } else { "916" };
            let tag = if n % 5 == 0 { "vip" } else { "new" };
            let body = json!({"phone_number": format!("7{code}{:07}", n), "tag": tag});
            service.post("/clients", body).await;
        }
        for limit in [1, 7, 25, 1000] {
            let ids = texts(&all_pages(&service, "/clients", limit).await, "id");
            assert_eq!(ids.len(), 25, "by {limit}");
            assert!(ids.is_sorted(), "in the order of their creation");
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 25, "every client once");
        }
        for (query, expected) in [
            ("tag=vip", 5), ("tag=new", 20), ("mobile_operator_code=903", 13),
            ("mobile_operator_code=903&tag=vip", 3), ("tag=nobody", 0), ("mobile_operator_code=999", 0),
        ] {
            let found = all_pages(&service, &format!("/clients?{query}"), 2).await;
            assert_eq!(found.len(), expected, "{query}");
            for pair in query.split('&') {
                let (field, value) = pair.split_once('=').expect("a pair");
                assert!(found.iter().all(|client| client[field] == value), "{query}");
            }
        }
        let default = service.get("/clients").await;
        assert_eq!(default["items"].as_array().expect("items").len(), 25, "50 by default");
    }
}

on_each_database! {
    async fn insertions_and_deletions_between_two_pages_do_not_shift_items(kind: Database) {
        let service = Service::start(kind).await;
        service.import(6, "all").await;
        let first = service.get("/clients?limit=3").await;
        let ids = texts(first["items"].as_array().expect("items"), "id");
        // with OFFSET the fourth client would now be skipped
        ask(&service, "DELETE", &format!("/clients/{}", ids[0]), None).await;
        service.post("/clients", json!({"phone_number": "79991234567"})).await;
        let cursor = first["next_cursor"].as_str().expect("a next page");
        let rest = service.get(&format!("/clients?limit=10&cursor={cursor}")).await;
        let numbers = texts(rest["items"].as_array().expect("items"), "phone_number");
        assert_eq!(numbers, ["79030000003", "79030000004", "79030000005", "79991234567"]);
    }
}

on_each_database! {
    async fn a_page_that_ends_exactly_at_the_end_has_no_next_cursor(kind: Database) {
        let service = Service::start(kind).await;
        service.import(4, "all").await;
        let page = service.get("/clients?limit=4").await;
        assert_eq!((page["items"].as_array().expect("items").len(), &page["next_cursor"]), (4, &json!(null)));
        let page = service.get("/clients?limit=3").await;
        assert!(page["next_cursor"].is_string(), "{page}");
    }
}

on_each_database! {
    async fn an_invalid_parameter_of_a_list_is_refused_by_its_name(kind: Database) {
        let service = Service::start(kind).await;
        for list in ["/clients", "/mailings", "/messages"] {
            for limit in ["0", "-1", "1001", "1e3", "99999999999999999999", "", "many", "1.5", "%00"] {
                let problem = ask(&service, "GET", &format!("{list}?limit={limit}"), None).await.problem(422);
                assert_eq!(fields(&problem), ["limit"], "{list} {limit}");
                let reason = problem["errors"][0]["reason"].as_str().expect("a reason");
                // either of the two checks may run first
                let is_control = limit == "%00" && reason.contains("control characters");
                assert!(reason.contains("1 to 1000") || is_control, "{limit}: {reason}");
            }
            for (query, named) in [
                ("cursor=", "cursor"), ("cursor=nope", "cursor"), ("cursor=%00", "cursor"),
                ("nope=1", "nope"), ("limit=1&limit=2", "limit"), ("offset=10", "offset"),
            ] {
                let problem = ask(&service, "GET", &format!("{list}?{query}"), None).await.problem(422);
                assert_eq!(fields(&problem), [named], "{list}?{query}");
            }
        }
        for (path, named) in [
            ("/clients?tag=", vec!["tag"]),
            ("/clients?tag=&mobile_operator_code=abc", vec!["mobile_operator_code", "tag"]),
            ("/mailings?status=sent", vec!["status"]),
            ("/mailings?status=", vec!["status"]),
            ("/messages?status=running", vec!["status"]),
            ("/messages?status=SENT", vec!["status"]),
        ] {
            let problem = ask(&service, "GET", path, None).await.problem(422);
            assert_eq!(fields(&problem), named, "{path}");
        }
    }
}

on_each_database! {
    async fn mailings_are_listed_by_status_and_page_by_page(kind: Database) {
        let service = Service::start(kind).await;
        let later = |n: u64| after(Duration::from_secs(3600 + n));
        let mut made = Vec::new();
        for n in 0..5 {
            let body = json!({"text": format!("text {n}"), "starts_at": later(0), "ends_at": later(60)});
            made.push(crate::api::ask::id_of(&service.post("/mailings", body).await));
        }
        ask(&service, "POST", &format!("/mailings/{}/pause", made[0]), None).await.success(200);
        ask(&service, "POST", &format!("/mailings/{}/cancel", made[1]), None).await.success(200);
        let done = service.mail("nobody", Duration::from_secs(60)).await;
        service.finished(&done).await;
        for (status, expected) in [
            ("pending", &made[2..]), ("paused", &made[..1]), ("cancelled", &made[1..2]),
            ("finished", std::slice::from_ref(&done)), ("running", &[]),
        ] {
            let found = all_pages(&service, &format!("/mailings?status={status}"), 2).await;
            assert_eq!(texts(&found, "id"), expected, "{status}");
            assert!(found.iter().all(|mailing| mailing["status"] == status));
        }
        made.push(done);
        assert_eq!(texts(&all_pages(&service, "/mailings", 4).await, "id"), made);
    }
}
