//! Batches: a result for each notification, counts that balance, and atomic batches.

use diesel::connection::SimpleConnection;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use super::{later, sms};
use crate::api::ask::{all_pages, ask, database, fields};
use crate::on_each_database;
use crate::support::{Database, Service, balance};

on_each_database! {
    async fn the_example_batch_is_sent_and_its_counts_balance_at_any_time(kind: Database) {
        let service = Service::start(kind).await;
        let batch = json!({"notifications": [
            {"channel": "sms", "recipient": "+901111111111", "content": "Flash sale!", "priority": "high"},
            {"channel": "email", "recipient": "a@b.com", "content": "Flash sale!", "priority": "high"},
            {"channel": "push", "recipient": "device-token", "content": "Flash sale!", "priority": "high"},
        ]});
        let answer = ask(&service, "POST", "/notifications/batch", Some(batch)).await;
        let made = answer.success(201);
        let id = made["batch_id"].as_str().expect("an id");
        assert_eq!(answer.header("location"), format!("/api/v1/batches/{id}"));
        assert_eq!((&made["total"], &made["accepted"], &made["rejected"]), (&json!(3), &json!(3), &json!(0)));
        let path = format!("/batches/{id}");
        let over = service.wait_for(&path, |batch| {
            assert!(balance(&batch["counts"]), "{batch}");
            batch["counts"]["sent"] == 3
        });
        assert_eq!(over.await["counts"]["total"], 3);
        let items = all_pages(&service, &format!("{path}/notifications"), 2).await;
        let channels: Vec<&Value> = items.iter().map(|item| &item["channel"]).collect();
        assert_eq!(channels, ["sms", "email", "push"], "in the order in which they were posted");
        assert!(items.iter().all(|item| item["batch_id"] == json!(id)));
    }
}

on_each_database! {
    async fn invalid_items_have_reasons_and_refuse_an_atomic_batch(kind: Database) {
        let service = Service::start(kind).await;
        let batch = json!({"notifications": [
            sms("one"), {"channel": "sms", "recipient": "x", "content": ""}, 7, sms("two"), {"channel": "sms"},
        ]});
        let problem = ask(&service, "POST", "/notifications/batch?atomic=true", Some(batch.clone())).await.problem(422);
        assert!(fields(&problem).contains(&"notifications[1].recipient".to_owned()), "{problem}");
        assert_eq!(service.get("/notifications").await["items"], json!([]));
        let made = ask(&service, "POST", "/notifications/batch", Some(batch)).await.success(201);
        let states: Vec<&Value> = made["items"].as_array().expect("items").iter().map(|item| &item["status"]).collect();
        assert_eq!(states, ["accepted", "rejected", "rejected", "accepted", "rejected"]);
        assert_eq!(made["items"][1]["errors"].as_array().map(Vec::len), Some(2));
        let path = format!("/batches/{}", made["batch_id"].as_str().expect("an id"));
        service.wait_for(&path, |batch| batch["counts"]["sent"] == 2).await;
        for (body, wrong) in [
            (json!({"notifications": []}), "notifications"),
            (json!({"notifications": vec![sms("x"); 1001]}), "notifications"),
            (json!({"notifications": [{"channel": "sms"}]}), "notifications[0].content"),
            (json!({}), "notifications"),
        ] {
            let problem = ask(&service, "POST", "/notifications/batch", Some(body)).await.problem(422);
            assert!(fields(&problem).contains(&wrong.to_owned()), "{problem}");
        }
        ask(&service, "GET", "/batches/01a1fd78-dce9-703e-ab9c-ffd64ca17562", None).await.problem(404);
    }
}

on_each_database! {
    async fn a_batch_has_up_to_a_thousand_items_and_waiting_ones_can_be_cancelled(kind: Database) {
        let service = Service::start(kind).await;
        let mut items = vec![sms("now"); 400];
        items.extend(vec![later(); 600]);
        let made = service.post("/notifications/batch", json!({"notifications": items})).await;
        let path = format!("/batches/{}", made["batch_id"].as_str().expect("an id"));
        service.wait_for(&path, |batch| batch["counts"]["sent"] == 400).await;
        let cancelled = ask(&service, "DELETE", &path, None).await.success(200);
        assert_eq!((&cancelled["counts"]["cancelled"], &cancelled["counts"]["queued"]), (&json!(600), &json!(0)));
        assert!(balance(&cancelled["counts"]));
        assert_eq!(service.sandbox.stats().distinct, 400);
        ask(&service, "DELETE", "/batches/01a1fd78-dce9-703e-ab9c-ffd64ca17562", None).await.problem(404);
    }
}

on_each_database! {
    async fn an_overloaded_database_refuses_requests_and_loses_no_accepted_one(kind: Database) {
        let service = Service::start_with(kind, &[("notifications.intake_limit", "2500")]).await;
        let mut holder = database(&service);
        holder.batch_execute(match kind {
            // waits, because the engine may be writing
            Database::Sqlite => "PRAGMA busy_timeout = 60000; BEGIN IMMEDIATE",
            Database::Postgres => "BEGIN; LOCK TABLE message IN EXCLUSIVE MODE",
        }).expect("a lock");
        let batch = json!({"notifications": vec![later(); 1000]});
        let mut answers: FuturesUnordered<_> =
            (0..3).map(|_| ask(&service, "POST", "/notifications/batch", Some(batch.clone()))).collect();
        let refused = answers.next().await.expect("an answer");
        assert_eq!(refused.problem(503)["type"], "/problems/busy");
        assert_eq!(refused.header("retry-after"), "1");
        holder.batch_execute("ROLLBACK").expect("the lock's end");
        while let Some(answer) = answers.next().await {
            assert_eq!(answer.success(201)["accepted"], 1000);
        }
        assert_eq!(all_pages(&service, "/notifications", 1000).await.len(), 2000);
    }
}
