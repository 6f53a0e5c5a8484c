//! The counts of mailings: they balance at any time and finally equal the rows.

use std::collections::BTreeMap;
use std::time::Duration;

use diesel::dsl::count_star;
use diesel::prelude::*;
use fanfare::db::schema::{attempt, dead_letter, due, mailing, message, page};
use fanfare::db::types::MailingId;
use fanfare::kinds::MessageStatus;
use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::api::ask::{ask, database};
use crate::on_each_database;
use crate::support::{Service, after, balance};

const MINUTE: Duration = Duration::from_secs(60);

/// Returns the numbers of rows of `message` by status, of one mailing or of all.
fn rows(service: &Service, of: Option<&str>) -> BTreeMap<&'static str, i64> {
    let mut query =
        message::table.group_by(message::status).select((message::status, count_star())).into_boxed();
    if let Some(id) = of {
        let id: MailingId = id.parse().expect("a UUID");
        let of_id = mailing::table.find(id).select(mailing::number.nullable());
        query = query.filter(message::mailing_number.eq_any(of_id));
    }
    let rows: Vec<(i16, i64)> = query.load(&mut database(service)).expect("the rows");
    rows.into_iter()
        .map(|(code, count)| (MessageStatus::from_code(code).expect("a status").as_str(), count))
        .collect()
}

/// Checks that the counts of the final states equal the rows, and that no other rows exist.
fn assert_final(service: &Service, of: Option<&str>, counts: &Value) {
    assert!(balance(counts), "{counts}");
    let rows = rows(service, of);
    for status in ["queued", "sending", "sent", "failed", "expired", "cancelled"] {
        assert_eq!(counts[status], rows.get(status).copied().unwrap_or(0), "{status}: {counts} {rows:?}");
    }
}

on_each_database! {
    async fn counts_balance_at_any_time_and_finally_equal_the_rows(kind: Database) {
        let retries = [("retry.first_delay", "20ms"), ("retry.limit", "2"), ("channels.rate_per_second", "400")];
        let service = Service::start_with(kind, &retries).await;
        service.import(400, "all").await;
        service.faults(Faults {
            error_rate: 0.2, permanent_rate: 0.1, drop_rate: 0.05, garbage_rate: 0.05, ..Faults::default()
        });
        let id = service.mail("all", MINUTE).await;
        let path = format!("/mailings/{id}");
        let mut looks = 0;
        loop {
            let (mailing, stats) = (service.get(&path).await, service.get(&format!("{path}/stats")).await);
            for counts in [&mailing["counts"], &stats["counts"]] {
                assert!(balance(counts), "{counts}");
                assert_eq!(counts["total"], 400);
            }
            looks += 1;
            if !stats["finished_at"].is_null() {
                break;
            }
        }
        assert!(looks > 5, "the mailing finished too early to observe it");
        let counts = service.finished(&id).await;
        assert_final(&service, Some(&id), &counts);
        assert_eq!(counts["queued"].as_i64().zip(counts["sending"].as_i64()), Some((0, 0)));
        assert!(counts["failed"].as_i64() > Some(20), "{counts}");
        let stats = service.get(&format!("{path}/stats")).await;
        assert_eq!((&stats["mailing_id"], &stats["status"], &stats["counts"]), (&json!(id), &json!("finished"), &counts));
        let delivered = service.sandbox.stats().by_status.ok;
        assert_eq!(counts["sent"], delivered, "sent equals the messages that the provider accepted");

        // no work is left
        let c = &mut database(&service);
        let left = |count: QueryResult<i64>| count.expect("a count");
        assert_eq!(left(due::table.count().get_result(c)), 0, "due");
        assert_eq!(left(page::table.count().get_result(c)), 0, "pages");
        assert_eq!(counts["failed"], left(dead_letter::table.count().get_result(c)), "dead letters");
        let tries: i64 = left(attempt::table.count().get_result(c));
        // a request on a kept connection that was cut is repeated once within its attempt
        let (seen, attempts) = (service.sandbox.stats(), tries.unsigned_abs() + delivered);
        let attempted = seen.requests - seen.by_status.dropped..=seen.requests;
        assert!(attempted.contains(&attempts), "{attempts} attempts: {seen:?}");
    }
}

on_each_database! {
    async fn the_overview_is_the_sum_of_all_mailings(kind: Database) {
        let settings = [("retry.first_delay", "3600s"), ("channels.rate_per_second", "300")];
        let service = Service::start_with(kind, &settings).await;
        let nothing = service.get("/mailings/stats").await;
        assert!(balance(&nothing["counts"]) && nothing["counts"]["total"] == 0, "{nothing}");
        service.import(30, "all").await;

        let sent = service.mail("all", MINUTE).await;
        service.finished(&sent).await;
        service.faults(Faults { permanent_rate: 1.0, ..Faults::default() });
        let failed = service.mail("all", MINUTE).await;
        service.finished(&failed).await;
        // the first retry is an hour away: past the end of one window and within the other
        service.faults(Faults { error_rate: 1.0, ..Faults::default() });
        let expired = service.mail("all", MINUTE).await;
        service.finished(&expired).await;
        let waiting = service.mail("all", 120 * MINUTE).await;
        service.wait_for("/messages?status=queued&limit=30", |list| list["items"][29].is_object()).await;
        let cancelled = service.mail("all", 120 * MINUTE).await;
        service.wait_for(&format!("/mailings/{cancelled}/messages?status=queued"), |list| list["items"][29].is_object()).await;
        ask(&service, "POST", &format!("/mailings/{cancelled}/cancel"), None).await.success(200);
        service.finished(&cancelled).await;
        let later = json!({"text": "x", "starts_at": after(MINUTE), "ends_at": after(2 * MINUTE)});
        service.post("/mailings", later.clone()).await;
        let paused = crate::api::ask::id_of(&service.post("/mailings", later).await);
        ask(&service, "POST", &format!("/mailings/{paused}/pause"), None).await.success(200);

        for (id, status) in [(&sent, "sent"), (&failed, "failed"), (&expired, "expired"), (&waiting, "queued"), (&cancelled, "cancelled")] {
            let stats = service.get(&format!("/mailings/{id}/stats")).await;
            assert_eq!((&stats["counts"][status], &stats["counts"]["total"]), (&json!(30), &json!(30)), "{status}: {stats}");
            assert_final(&service, Some(id), &stats["counts"]);
        }
        let overview = service.get("/mailings/stats").await;
        assert_eq!(overview, json!({
            "mailings": {"total": 7, "pending": 1, "running": 1, "paused": 1, "finished": 3, "cancelled": 1},
            "counts": {"total": 150, "queued": 30, "sending": 0, "sent": 30, "failed": 30, "expired": 30, "cancelled": 30},
        }));
        assert_final(&service, None, &overview["counts"]);
    }
}

on_each_database! {
    async fn a_mailing_is_not_finished_while_a_message_is_between_two_attempts(kind: Database) {
        let retries =
            [("retry.first_delay", "1ms"), ("retry.factor", "1"), ("retry.limit", "20"), ("delivery.poll", "10ms"),
                ("channels.breaker_failures", "0")];
        let service = Service::start_with(kind, &retries).await;
        service.import(1, "all").await;
        service.faults(Faults { error_rate: 1.0, ..Faults::default() });
        let mut made = Vec::new();
        for _ in 0..60 {
            made.push(service.mail("all", MINUTE).await);
        }
        for id in &made {
            let counts = service.finished(id).await;
            assert_eq!((&counts["total"], &counts["failed"]), (&json!(1), &json!(1)), "{counts}");
        }
        assert_eq!(service.sandbox.stats().requests, 60 * 21, "no attempt after the counts were final");
    }
}
