//! Notifications across kills: each accepted notification is stored once, and sent once, at its time.

use std::time::Duration;

use serde_json::json;

use crate::crash::campaign::Campaign;
use crate::crash::posting::Posting;
use crate::process::Server;
use crate::support::after;

/// Small leases, so that a kill finds several. The number of messages that a kill may repeat is computed from the
/// workers of `sms`.
const SETTINGS: &[(&str, &str)] = &[
    ("DELIVERY_PAGE_SIZE", "50"),
    ("DELIVERY_RECORD_BATCH", "20"),
    ("IN_APP_WORKERS", "16"),
    ("SMS_WORKERS", "16"),
];

crate::on_each_database! {
    async fn kills_lose_no_notification_and_repeat_at_most_those_in_flight(kind: Database) {
        const KILLS: usize = 5;
        const EACH: usize = 150;
        let mut campaign = Campaign::new(kind, &["--latency", "5ms"], SETTINGS).await;
        let mut server = campaign.serve().await;
        let posting = Posting::start(&server, EACH);
        for kill in 1..=KILLS {
            // out of the 1200 requests of 8 callers
            posting.answered(kill * 1100 / KILLS - 100).await;
            campaign.kill(&mut server.process);
            server = campaign.serve().await;
            posting.goes_on_at(&server);
        }
        posting.check(&campaign, &server).await;
    }
}

crate::on_each_database! {
    async fn a_caller_that_waits_across_a_kill_finds_the_result_under_its_key(kind: Database) {
        let mut campaign = Campaign::new(kind, &[], SETTINGS).await;
        let mut server = campaign.serve().await;
        let body = json!({"channel": "in_app", "recipient": "user-1", "content": "x", "scheduled_at": after(Duration::from_secs(3))});
        let ask = |server: &Server| {
            let request = server.http.post(server.url("/notifications")).header("Prefer", "wait=4");
            request.header("Idempotency-Key", "waits").json(&body).send()
        };
        let waiting = tokio::spawn(ask(&server));
        server.wait_for("/notifications?status=scheduled", |list| list["items"][0]["id"].is_string()).await;
        campaign.kill(&mut server.process);
        assert!(waiting.await.expect("a task").is_err(), "the connection was closed");
        let server = campaign.serve().await;
        let answer = loop {
            let answer = ask(&server).await.expect("an answer");
            if answer.status() != 409 {
                break answer;
            }
            assert!(answer.headers().contains_key("retry-after"), "in work until the first caller's time is over");
            tokio::time::sleep(crate::support::api::LOOK).await;
        };
        assert_eq!((answer.status().as_u16(), &answer.headers()["idempotency-replayed"]), (200, &"true".parse().expect("a header")));
        let found: serde_json::Value = answer.json().await.expect("JSON");
        assert_eq!(found["status"], "sent");
        assert_eq!(server.get("/notifications").await["items"].as_array().map(Vec::len), Some(1));
        assert_eq!(campaign.provider.requests().len(), 1);
    }
}
