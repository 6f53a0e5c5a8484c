//! Transient failures are retried, and permanent ones are not.

use std::time::Duration;

use fanfare::kinds::MessageStatus;
use fanfare::sandbox::Faults;
use serde_json::json;

use crate::delivery::bench::{Bench, LONG};
use crate::delivery::scripted::{OK, Reply, Scripted};

/// Returns the microseconds between successive requests.
fn gaps(times: impl Iterator<Item = i64>) -> Vec<i64> {
    let times: Vec<i64> = times.collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

crate::on_each_database! {
    async fn by_default_a_message_is_retried_after_one_two_and_four_seconds_and_then_is_a_dead_letter(kind: Database) {
        let faults = Faults { error_rate: 1.0, ..Faults::default() };
        let bench = Bench::with_faults(kind, &[], faults).await;
        bench.import(3, "vip").await;
        let id = bench.mail("vip", LONG).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["failed"], 3, "{counts}");
        assert_eq!(bench.dead_letters(&id).await, 3);
        for row in bench.rows(&id).await {
            let requests: Vec<_> = bench.requests().into_iter().filter(|request| request.id == row.id).collect();
            assert!(requests.iter().all(|request| request.key.as_ref() == Some(&row.id)));
            let gaps = gaps(requests.iter().map(|request| request.at_us));
            assert_eq!(gaps.len(), 3, "{gaps:?}");
            for (gap, seconds) in gaps.iter().zip([1, 2, 4]) {
                assert!((seconds * 1_000_000..seconds * 1_000_000 + 900_000).contains(gap), "{gaps:?}");
            }
            let message = bench.get(&format!("/messages/{}", row.id)).await;
            let log = message["attempt_log"].as_array().expect("attempts");
            let numbers: Vec<_> = log.iter().map(|attempt| attempt["number"].as_i64().expect("a number")).collect();
            assert_eq!(numbers, [1, 2, 3, 4], "{message}");
            assert!(log.iter().all(|attempt| attempt["status_code"] == 500 && attempt["duration_ms"].is_number()));
            assert_eq!(log[0]["outcome"], "retry", "{message}");
            assert_eq!(log[3]["outcome"], "failed", "{message}");
            assert!(message["error"].as_str().expect("a reason").contains("4 attempts"), "{message}");
        }
    }
}

crate::on_each_database! {
    async fn every_transient_failure_is_retried_under_the_same_id_and_recorded(kind: Database) {
        // connections are not reused: on a reused connection, a cut leads to a second request within the attempt
        const REPLIES: &[Reply] = &[
            Reply::Http(500, "connection: close\r\n", ""),
            Reply::Http(429, "connection: close\r\nretry-after: 1\r\n", ""),
            Reply::Http(408, "connection: close\r\n", ""),
            Reply::Http(425, "connection: close\r\n", ""),
            Reply::Http(200, "connection: close\r\n", "<html>"),
            Reply::Http(200, "connection: close\r\n", r#"{"message":"no code"}"#),
            Reply::Cut,
            Reply::Silence,
            Reply::Http(200, "connection: close\r\n", r#"{"code":0}"#),
        ];
        let provider = Scripted::start(REPLIES).await;
        let settings = [("sms.base_url", provider.base.as_str()), ("channels.timeout", "300ms"),
            ("retry.first_delay", "20ms"), ("retry.factor", "1"), ("retry.limit", "9")];
        let bench = Bench::start(kind, &settings).await;
        bench.import(5, "vip").await;
        let id = bench.mail("vip", LONG).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 5, "{counts}");
        assert_eq!(bench.dead_letters(&id).await, 0);
        for row in bench.rows(&id).await {
            let seen: Vec<_> = provider.seen().into_iter().filter(|seen| seen.id == row.id).collect();
            assert!(seen.iter().all(|seen| seen.key == row.id), "{seen:?}");
            let gaps = gaps(seen.iter().map(|seen| seen.at_us));
            assert!(gaps[1] >= 1_000_000, "Retry-After: {gaps:?}");
            assert!(gaps.iter().all(|gap| *gap >= 20_000), "{gaps:?}");
            let message = bench.get(&format!("/messages/{}", row.id)).await;
            let log = message["attempt_log"].as_array().expect("attempts");
            let told: Vec<_> = log.iter()
                .map(|attempt| (attempt["number"].clone(), attempt["status_code"].clone(), attempt["outcome"].clone()))
                .collect();
            // 429 with Retry-After is not a failure of the message, so it uses no attempt
            let expected: Vec<_> = [Some(500), Some(408), Some(425), Some(200), Some(200), None, None, Some(200)]
                .into_iter().enumerate()
                .map(|(i, status)| (json!(i + 1), json!(status), json!(if i == 7 { "delivered" } else { "retry" })))
                .collect();
            assert_eq!(told, expected, "{message}");
            assert!(log[..7].iter().all(|attempt| attempt["error"].is_string()), "{message}");
            assert!(log[6]["duration_ms"].as_i64().expect("a duration") >= 300, "{message}");
        }
    }
}

crate::on_each_database! {
    async fn a_request_on_a_closing_connection_uses_no_attempt(kind: Database) {
        // the second attempt uses the connection of the first
        const REPLIES: &[Reply] = &[Reply::Http(500, "", ""), Reply::Cut, OK];
        let provider = Scripted::start(REPLIES).await;
        let settings = [("sms.base_url", provider.base.as_str()), ("retry.first_delay", "20ms"), ("retry.limit", "1")];
        let bench = Bench::start(kind, &settings).await;
        bench.import(1, "vip").await;
        let id = bench.mail("vip", LONG).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 1, "{counts}");
        let message = bench.get(&format!("/messages/{}", bench.rows(&id).await[0].id)).await;
        let log = message["attempt_log"].as_array().expect("attempts");
        let told: Vec<_> = log.iter().map(|attempt| attempt["status_code"].as_i64()).collect();
        assert_eq!(told, [Some(500), Some(200)], "{message}");
        assert_eq!(provider.seen().len(), 3);
    }
}

crate::on_each_database! {
    async fn a_provider_that_refuses_connections_gets_the_message_when_it_is_back(kind: Database) {
        let settings = [("retry.first_delay", "100ms"), ("retry.factor", "1"), ("retry.limit", "20")];
        let mut bench = Bench::start(kind, &settings).await;
        bench.import(10, "vip").await;
        bench.stop_provider().await;
        let id = bench.mail("vip", LONG).await;
        let path = format!("/mailings/{id}/messages?status=queued");
        let tried = |list: &serde_json::Value| {
            list["items"].as_array().is_some_and(|items| items.iter().any(|m| m["attempts"].as_i64() > Some(1)))
        };
        let waiting = bench.wait_for(&path, tried).await;
        assert_eq!(waiting["items"][0]["error"], "the provider could not be reached", "{waiting}");
        bench.start_provider();
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 10, "{counts}");
        bench.each_received_once(&id).await;
    }
}

crate::on_each_database! {
    async fn permanent_failures_are_not_retried(kind: Database) {
        for (reply, status) in [(Reply::Http(400, "", ""), 400), (Reply::Http(200, "", r#"{"code":7}"#), 200)] {
            let provider = Scripted::start(if status == 400 { &[Reply::Http(400, "", "")] } else { &[Reply::Http(200, "", r#"{"code":7}"#)] }).await;
            let bench = Bench::start(kind, &[("sms.base_url", provider.base.as_str())]).await;
            bench.import(4, "vip").await;
            let id = bench.mail("vip", LONG).await;
            let counts = bench.closed(&id).await;
            assert_eq!(counts["failed"], 4, "{reply:?}: {counts}");
            assert_eq!((provider.seen().len(), bench.dead_letters(&id).await), (4, 4));
            for row in bench.rows(&id).await {
                assert_eq!((row.status, row.attempts), (MessageStatus::Failed, 1));
                assert!(row.error.as_ref().is_some_and(|why| why.contains(&status.to_string())), "{row:?}");
            }
        }
    }
}

crate::on_each_database! {
    async fn a_response_that_a_database_cannot_store_as_text_blocks_no_message(kind: Database) {
        let provider = Scripted::start(&[Reply::Http(200, "", r#"{"code":0,"id":"a\u0000b"}"#)]).await;
        let bench = Bench::start(kind, &[("sms.base_url", provider.base.as_str())]).await;
        bench.import(3, "vip").await;
        let id = bench.mail("vip", LONG).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 3, "{counts}");
        assert_eq!(provider.seen().len(), 3);
    }
}

/// The sandbox's own rate limit returns 429 with `Retry-After: 1`.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_with_a_rate_limit_gets_all_messages_in_the_end() {
    let faults = Faults { rate_limit: std::num::NonZeroU32::new(40), ..Faults::default() };
    let settings = [("retry.first_delay", "50ms"), ("retry.limit", "20"), ("retry.factor", "1")];
    let bench = Bench::with_faults(crate::support::Database::Sqlite, &settings, faults).await;
    bench.import(120, "vip").await;
    let id = bench.mail("vip", LONG).await;
    let counts = bench.closed(&id).await;
    assert_eq!(counts["sent"], 120, "{counts}");
    bench.each_received_once(&id).await;
    let mut refused = std::collections::HashMap::new();
    for request in bench.requests() {
        if let Some(before) = refused.get(&request.id) {
            assert!(request.at_us - before >= Duration::from_secs(1).as_micros() as i64, "{request:?}");
        }
        if request.outcome == "limited" {
            refused.insert(request.id.clone(), request.at_us);
        }
    }
    assert!(!refused.is_empty(), "the limit was never met");
}
