//! Pauses, resumes and cancels mailings.

use std::time::Duration;

use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::delivery::bench::{Bench, LONG, finals};
use crate::support::{after, balance};

/// Pauses, and waits until no message of the mailing is in flight. Returns its counts.
async fn pause(bench: &Bench, id: &str) -> Value {
    let paused = bench.post(&format!("/mailings/{id}/pause"), json!({})).await;
    assert_eq!(paused["status"], "paused");
    let still = |mailing: &Value| {
        assert!(balance(&mailing["counts"]), "{mailing}");
        mailing["counts"]["sending"] == 0
    };
    bench.wait_for(&format!("/mailings/{id}"), still).await["counts"].clone()
}

/// Runs another mailing, which starts in a second, to its end: enough time for a mistake to show.
async fn meanwhile(bench: &Bench) {
    bench.clients("phone_number,tag\n79990000001,other\n79990000002,other\n".into()).await;
    let body = json!({"text": "x", "filter": "other", "starts_at": after(Duration::from_secs(1)), "ends_at": after(LONG)});
    let other = bench.create(body).await;
    assert_eq!(bench.closed(&other).await["sent"], 2);
}

crate::on_each_database! {
    async fn a_paused_mailing_sends_nothing_and_the_rest_goes_out_once_when_it_is_resumed(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "400")]).await;
        bench.import(800, "vip").await;
        let id = bench.mail("vip", LONG).await;
        bench.received(100).await;
        let counts = pause(&bench, &id).await;
        let before = bench.requests_of(&id).await.len();
        assert_eq!(counts["sent"], before, "what was in flight is recorded: {counts}");
        assert_eq!(counts["queued"].as_i64(), Some(800 - i64::try_from(before).expect("a count")), "{counts}");
        assert!(before < 800, "it was paused in the middle");
        meanwhile(&bench).await;
        assert_eq!(bench.requests_of(&id).await.len(), before, "nothing is sent while it is paused");
        let resumed = bench.post(&format!("/mailings/{id}/resume"), json!({})).await;
        assert_eq!(resumed["status"], "running");
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 800, "{counts}");
        bench.each_received_once(&id).await;
    }
}

crate::on_each_database! {
    async fn retries_due_during_a_pause_wait_until_the_mailing_is_resumed(kind: Database) {
        let faults = Faults { error_rate: 1.0, ..Faults::default() };
        let bench = Bench::with_faults(kind, &[("retry.first_delay", "300ms")], faults).await;
        bench.import(20, "vip").await;
        let id = bench.mail("vip", LONG).await;
        bench.received(20).await;
        let counts = pause(&bench, &id).await;
        assert_eq!(counts["queued"], 20, "{counts}");
        bench.set_faults(Faults::default());
        let before = bench.requests_of(&id).await.len();
        meanwhile(&bench).await;
        assert_eq!(bench.requests_of(&id).await.len(), before, "nothing is sent while it is paused");
        let counts = bench.get(&format!("/mailings/{id}")).await["counts"].clone();
        assert_eq!((counts["queued"].as_i64(), balance(&counts)), (Some(20), true), "{counts}");
        bench.post(&format!("/mailings/{id}/resume"), json!({})).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 20, "{counts}");
        bench.each_received_once(&id).await;
    }
}

crate::on_each_database! {
    async fn the_window_of_a_paused_mailing_still_closes(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "100")]).await;
        bench.import(1000, "vip").await;
        let id = bench.mail("vip", Duration::from_secs(2)).await;
        bench.received(20).await;
        let paused = pause(&bench, &id).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], paused["sent"], "{counts}");
        assert_eq!((finals(&counts), counts["expired"].as_i64() > Some(700)), (1000, true), "{counts}");
        assert_eq!(bench.get(&format!("/mailings/{id}")).await["status"], "finished");
    }
}

crate::on_each_database! {
    async fn a_mailing_paused_before_its_start_starts_when_it_is_resumed(kind: Database) {
        let bench = Bench::start(kind, &[]).await;
        bench.import(3, "vip").await;
        let body = json!({"text": "x", "filter": "vip", "starts_at": after(Duration::from_millis(500)), "ends_at": after(LONG)});
        let id = bench.create(body).await;
        bench.post(&format!("/mailings/{id}/pause"), json!({})).await;
        meanwhile(&bench).await;
        assert_eq!(bench.get(&format!("/mailings/{id}")).await["status"], "paused");
        let resumed = bench.post(&format!("/mailings/{id}/resume"), json!({})).await;
        assert_eq!(resumed["status"], "pending");
        assert_eq!(bench.closed(&id).await["sent"], 3);
    }
}

crate::on_each_database! {
    async fn a_cancelled_mailing_is_cancelled_at_once_and_the_rest_is_never_sent(kind: Database) {
        let faults = Faults { error_rate: 0.3, ..Faults::default() };
        let bench = Bench::with_faults(kind, &[("channels.rate_per_second", "400")], faults).await;
        bench.import(3000, "vip").await;
        let id = bench.mail("vip", LONG).await;
        bench.received(200).await;
        let cancelled = bench.post(&format!("/mailings/{id}/cancel"), json!({})).await;
        assert_eq!((cancelled["status"].as_str(), balance(&cancelled["counts"])), (Some("cancelled"), true));
        let counts = bench.closed(&id).await;
        assert_eq!(bench.get(&format!("/mailings/{id}")).await["status"], "cancelled");
        assert_eq!(finals(&counts), 3000, "{counts}");
        assert!(counts["cancelled"].as_i64() > Some(2000) && counts["failed"] == 0, "{counts}");
        bench.each_received_once(&id).await;
        let (status, _) = bench.call("POST", &format!("/mailings/{id}/resume"), Some(json!({}))).await;
        assert_eq!(status, 409);
    }
}

crate::on_each_database! {
    async fn a_paused_mailing_can_be_cancelled(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "200")]).await;
        bench.import(1000, "vip").await;
        let id = bench.mail("vip", LONG).await;
        bench.received(20).await;
        let paused = pause(&bench, &id).await;
        bench.post(&format!("/mailings/{id}/cancel"), json!({})).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], paused["sent"], "{counts}");
        assert_eq!(finals(&counts), 1000, "{counts}");
    }
}
