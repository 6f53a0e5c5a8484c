//! No message is sent outside the window, and the counts are finalized at its end.

use std::time::Duration;

use fanfare::kinds::MessageStatus;
use fanfare::sandbox::Faults;
use serde_json::json;

use crate::delivery::bench::{Bench, LONG, finals, micros, now};
use crate::support::after;

/// The microseconds until the provider, on a busy machine, has seen a request that started in time. In these tests,
/// sending past the end would continue for seconds.
const TRANSIT: i64 = 250_000;

crate::on_each_database! {
    async fn a_mailing_too_slow_for_its_window_sends_what_fits_and_the_rest_expires(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "100")]).await;
        bench.import(3000, "vip").await;
        let id = bench.mail("vip", Duration::from_secs(2)).await;
        let counts = bench.closed(&id).await;
        let mailing = bench.get(&format!("/mailings/{id}")).await;
        let (sent, expired) = (counts["sent"].as_i64().expect("a count"), counts["expired"].as_i64().expect("a count"));
        assert_eq!((mailing["status"].as_str(), sent + expired), (Some("finished"), 3000), "{counts}");
        assert!((50..=210).contains(&sent), "100 a second for less than 2 s: {counts}");
        let ends_at = micros(&mailing["ends_at"]);
        let late: Vec<_> = bench.requests().into_iter().filter(|request| request.at_us >= ends_at + TRANSIT).collect();
        assert!(late.is_empty(), "{late:?}");
        bench.each_received_once(&id).await;
        let rows = bench.rows(&id).await;
        let cut_off = rows.iter().filter(|row| row.status == MessageStatus::Expired && row.attempts > 0).count();
        assert!(cut_off <= 5, "expired messages were not sent, except those in flight: {cut_off}");
    }
}

crate::on_each_database! {
    async fn no_retry_is_planned_past_the_end_of_the_window(kind: Database) {
        let faults = Faults { error_rate: 1.0, ..Faults::default() };
        let bench = Bench::with_faults(kind, &[], faults).await;
        bench.import(20, "vip").await;
        let id = bench.mail("vip", Duration::from_millis(2500)).await;
        let counts = bench.closed(&id).await;
        let mailing = bench.get(&format!("/mailings/{id}")).await;
        assert_eq!(counts["expired"], 20, "{counts}");
        assert!(micros(&mailing["finished_at"]) < micros(&mailing["ends_at"]), "it was known before: {mailing}");
        for row in bench.rows(&id).await {
            assert_eq!(row.attempts, 2, "at 0 s and 1 s, and 3 s is too late: {row:?}");
            assert!(row.error.as_ref().is_some_and(|why| why.contains("window")), "{row:?}");
        }
        assert_eq!(bench.requests().len(), 40);
    }
}

crate::on_each_database! {
    async fn an_attempt_in_flight_is_aborted_at_the_end_of_the_window(kind: Database) {
        let faults = Faults { hang_rate: 1.0, ..Faults::default() };
        let bench = Bench::with_faults(kind, &[], faults).await;
        bench.import(5, "vip").await;
        let id = bench.mail("vip", Duration::from_millis(1500)).await;
        let counts = bench.closed(&id).await;
        let mailing = bench.get(&format!("/mailings/{id}")).await;
        assert_eq!(counts["expired"], 5, "{counts}");
        let overrun = micros(&mailing["finished_at"]) - micros(&mailing["ends_at"]);
        assert!((0..1_000_000).contains(&overrun), "the end did not wait for the timeout of 10 s: {overrun} us");
        assert_eq!(bench.requests().len(), 5);
    }
}

crate::on_each_database! {
    async fn a_window_shortened_while_it_runs_closes_at_its_new_end(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "100")]).await;
        bench.import(2000, "vip").await;
        let id = bench.mail("vip", LONG).await;
        bench.received(20).await;
        let change = json!({"ends_at": after(Duration::from_millis(700))});
        let (status, mailing) = bench.call("PATCH", &format!("/mailings/{id}"), Some(change)).await;
        assert_eq!(status, 200, "{mailing}");
        let counts = bench.closed(&id).await;
        assert!(counts["expired"].as_i64() > Some(1500) && finals(&counts) == 2000, "{counts}");
        let ends_at = micros(&mailing["ends_at"]);
        assert!(bench.requests().iter().all(|request| request.at_us < ends_at + TRANSIT));
        bench.each_received_once(&id).await;
    }
}

crate::on_each_database! {
    async fn an_attempt_in_flight_is_aborted_at_an_end_that_was_set_meanwhile(kind: Database) {
        let faults = Faults { hang_rate: 1.0, ..Faults::default() };
        let bench = Bench::with_faults(kind, &[("channels.timeout", "60s")], faults).await;
        bench.import(5, "vip").await;
        let id = bench.mail("vip", LONG).await;
        bench.received(5).await;
        let change = json!({"ends_at": after(Duration::from_millis(500))});
        let (status, mailing) = bench.call("PATCH", &format!("/mailings/{id}"), Some(change)).await;
        assert_eq!(status, 200, "{mailing}");
        let counts = bench.closed(&id).await;
        let mailing = bench.get(&format!("/mailings/{id}")).await;
        assert_eq!(counts["expired"], 5, "{counts}");
        let overrun = micros(&mailing["finished_at"]) - micros(&mailing["ends_at"]);
        assert!((0..5_000_000).contains(&overrun), "the end did not wait for the timeout of 60 s: {overrun} us");
    }
}

crate::on_each_database! {
    async fn a_window_lengthened_while_it_runs_is_used_to_its_new_end(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "200")]).await;
        bench.import(600, "vip").await;
        let id = bench.mail("vip", Duration::from_secs(2)).await;
        let first_end = now() + 2_000_000;
        bench.received(20).await;
        let change = json!({"ends_at": after(LONG)});
        let (status, mailing) = bench.call("PATCH", &format!("/mailings/{id}"), Some(change)).await;
        assert_eq!(status, 200, "{mailing}");
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 600, "{counts}");
        assert!(bench.requests().iter().any(|request| request.at_us > first_end));
        bench.each_received_once(&id).await;
    }
}
