//! Stops the service in the middle of a mailing, as by SIGTERM.

use std::time::Duration;

use fanfare::sandbox::Faults;
use serde_json::json;

use crate::delivery::bench::{Bench, LONG};
use crate::support::after;

crate::on_each_database! {
    async fn after_stops_in_the_middle_each_client_gets_exactly_one_message(kind: Database) {
        let faults = Faults { latency: Duration::from_millis(20), error_rate: 0.05, ..Faults::default() };
        let settings = [("retry.first_delay", "100ms"), ("retry.limit", "10")];
        let mut bench = Bench::with_faults(kind, &settings, faults).await;
        bench.import(4000, "vip").await;
        let id = bench.mail("vip", LONG).await;
        for stop in 1..=3 {
            bench.received(stop * 700).await;
            bench.stop().await;
            let (sent, seen) = (bench.rows(&id).await, bench.requests());
            let sent = sent.iter().filter(|row| row.status == fanfare::kinds::MessageStatus::Sent).count();
            let received = seen.iter().filter(|request| request.is_received()).count();
            assert_eq!(sent, received, "all accepted messages are recorded before the end");
            assert!(sent < 4000, "it was stopped in the middle");
            bench.go_on().await;
        }
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 4000, "{counts}");
        bench.each_received_once(&id).await;
    }
}

crate::on_each_database! {
    async fn a_paused_mailing_is_still_paused_after_a_restart(kind: Database) {
        let mut bench = Bench::start(kind, &[("channels.rate_per_second", "200")]).await;
        bench.import(400, "vip").await;
        bench.clients("phone_number,tag\n79990000001,other\n".into()).await;
        let id = bench.mail("vip", LONG).await;
        bench.received(20).await;
        bench.post(&format!("/mailings/{id}/pause"), json!({})).await;
        bench.stop().await;
        let before = bench.requests().len();
        bench.go_on().await;
        let body = json!({"text": "x", "filter": "other", "starts_at": after(Duration::from_millis(500)), "ends_at": after(LONG)});
        let other = bench.create(body).await;
        assert_eq!(bench.closed(&other).await["sent"], 1);
        assert_eq!(bench.requests().len(), before + 1, "only the other one is sent");
        bench.post(&format!("/mailings/{id}/resume"), json!({})).await;
        assert_eq!(bench.closed(&id).await["sent"], 400);
        bench.each_received_once(&id).await;
    }
}
