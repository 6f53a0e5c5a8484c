//! Lists of notifications: filters, pages and cursors.

use serde_json::{Value, json};

use super::{ended, later, posted, sms};
use crate::api::ask::{all_pages, ask, fields, id_of};
use crate::on_each_database;
use crate::support::{Service, after};

async fn ids(service: &Service, query: &str) -> Vec<String> {
    all_pages(service, &format!("/notifications?{query}"), 3).await.iter().map(id_of).collect()
}

on_each_database! {
    async fn notifications_are_found_by_their_fields_and_status(kind: Database) {
        let service = Service::start(kind).await;
        let before = after(std::time::Duration::ZERO);
        let sent = posted(&service, sms("sent")).await;
        ended(&service, &sent).await;
        let email = json!({"channel": "email", "recipient": "a@b.com", "content": "x", "priority": "low", "scheduled_at": later()["scheduled_at"]});
        let email = posted(&service, email).await;
        let scheduled = posted(&service, later()).await;
        let gone = posted(&service, later()).await;
        ask(&service, "DELETE", &format!("/notifications/{gone}"), None).await;
        let all = [&gone, &scheduled, &email, &sent].map(Clone::clone).to_vec();
        assert_eq!(ids(&service, "").await, all, "the newest first");
        for (query, expected) in [
            ("status=sent&channel=sms", vec![&sent]),
            ("status=scheduled", vec![&scheduled, &email]),
            ("status=queued", vec![]),
            ("status=processing", vec![]),
            ("status=sending", vec![]),
            ("status=failed", vec![]),
            ("status=cancelled", vec![&gone]),
            ("priority=low", vec![&email]),
            ("channel=email&recipient=a@b.com", vec![&email]),
            ("channel=sms&recipient=905551234567", vec![&gone, &scheduled, &sent]),
            ("channel=sms&recipient=%2B905551234567&status=sent", vec![&sent]),
            ("client_id=01a1fd78-dce9-703e-ab9c-ffd64ca17562", vec![]),
            ("from=2026-02-01T00:00:00Z&to=2026-02-28T23:59:59Z", vec![]),
        ] {
            assert_eq!(ids(&service, query).await.iter().collect::<Vec<_>>(), expected, "{query}");
        }
        assert_eq!(ids(&service, &format!("from={before}&to={}", after(std::time::Duration::from_secs(5)))).await.len(), 4);
        let page = |n: u32| { let service = &service; async move { service.get(&format!("/notifications?page={n}&limit=3")).await } };
        let first: Vec<Value> = page(1).await["items"].as_array().expect("items").clone();
        let second: Vec<Value> = page(2).await["items"].as_array().expect("items").clone();
        let both: Vec<String> = first.iter().chain(&second).map(id_of).collect();
        assert_eq!((first.len(), second.len(), both), (3, 1, all));
        for (query, wrong) in [
            ("status=gone", "status"), ("channel=fax", "channel"), ("page=0", "page"), ("limit=0", "limit"),
            ("page=2&cursor=01a1fd78-dce9-703e-ab9c-ffd64ca17562", "page"), ("page=999999", "page"),
            ("cursor=x", "cursor"), ("from=now", "from"), ("recipient=x", "recipient"), ("batch_id=7", "batch_id"),
            ("colour=red", "colour"),
        ] {
            let problem = ask(&service, "GET", &format!("/notifications?{query}"), None).await.problem(422);
            assert_eq!(fields(&problem), [wrong], "{query}");
        }
    }
}
