//! Mailings start at their time, or as soon as possible after it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::delivery::bench::{Bench, LONG, micros, now};
use crate::support::after;

/// Waits for a point in time.
async fn until(at: i64) {
    while now() < at {
        let left = u64::try_from(at - now()).unwrap_or(0);
        tokio::time::sleep(Duration::from_micros(left)).await;
    }
}

fn pending(starts: Duration, ends: Duration) -> Value {
    json!({"text": "x", "filter": "vip", "starts_at": after(starts), "ends_at": after(ends)})
}

crate::on_each_database! {
    async fn a_pending_mailing_starts_at_its_time(kind: Database) {
        let bench = Bench::start(kind, &[("delivery.poll", "1s")]).await;
        bench.import(10, "vip").await;
        let mailing = bench.post("/mailings", pending(Duration::from_millis(1200), LONG)).await;
        assert_eq!(mailing["status"], "pending");
        let counts = bench.closed(mailing["id"].as_str().expect("an id")).await;
        assert_eq!(counts["sent"], 10, "{counts}");
        let first = bench.requests()[0].at_us - micros(&mailing["starts_at"]);
        assert!((0..1_000_000).contains(&first), "{first} us after its time");
    }
}

crate::on_each_database! {
    async fn a_pending_mailing_moved_to_an_earlier_time_starts_earlier(kind: Database) {
        let bench = Bench::start(kind, &[]).await;
        bench.import(10, "vip").await;
        let id = bench.create(pending(Duration::from_secs(300), LONG)).await;
        let change = json!({"starts_at": after(Duration::from_millis(600))});
        let (status, mailing) = bench.call("PATCH", &format!("/mailings/{id}"), Some(change)).await;
        assert_eq!(status, 200, "{mailing}");
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 10, "{counts}");
        let first = bench.requests()[0].at_us - micros(&mailing["starts_at"]);
        assert!((0..1_000_000).contains(&first), "{first} us after its time");
    }
}

crate::on_each_database! {
    async fn a_start_missed_while_the_service_was_down_happens_at_the_next_start(kind: Database) {
        let mut bench = Bench::start(kind, &[]).await;
        bench.import(10, "vip").await;
        let mailing = bench.post("/mailings", pending(Duration::from_millis(700), LONG)).await;
        bench.stop().await;
        until(micros(&mailing["starts_at"])).await;
        assert!(bench.requests().is_empty());
        bench.go_on().await;
        let counts = bench.closed(mailing["id"].as_str().expect("an id")).await;
        assert_eq!(counts["sent"], 10, "{counts}");
    }
}

crate::on_each_database! {
    async fn a_mailing_whose_whole_window_passed_while_the_service_was_down_expires_as_a_whole(kind: Database) {
        let mut bench = Bench::start(kind, &[]).await;
        bench.import(700, "vip").await;
        let mailing = bench.post("/mailings", pending(Duration::from_millis(500), Duration::from_millis(1000))).await;
        bench.stop().await;
        until(micros(&mailing["ends_at"])).await;
        bench.go_on().await;
        let id = mailing["id"].as_str().expect("an id");
        let counts = bench.closed(id).await;
        assert_eq!((counts["total"].as_i64(), counts["expired"].as_i64()), (Some(700), Some(700)), "{counts}");
        assert_eq!(bench.get(&format!("/mailings/{id}")).await["status"], "finished");
        assert!(bench.requests().is_empty());
    }
}

crate::on_each_database! {
    async fn a_window_that_closes_while_a_running_mailing_is_down_expires_the_rest(kind: Database) {
        let mut bench = Bench::start(kind, &[("channels.rate_per_second", "100")]).await;
        bench.import(1000, "vip").await;
        let id = bench.mail("vip", Duration::from_millis(1500)).await;
        bench.received(20).await;
        bench.stop().await;
        let (before, ends_at) = (bench.requests().len(), now() + 1_500_000);
        until(ends_at).await;
        bench.go_on().await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], before, "{counts}");
        assert_eq!(counts["expired"], 1000 - before, "{counts}");
        assert_eq!(bench.requests().len(), before);
    }
}
