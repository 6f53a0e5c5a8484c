//! The channels and their providers, and test messages.

use std::num::NonZeroU32;

use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::api::ask::ask;
use crate::on_each_database;
use crate::support::Service;

fn named<'l>(list: &'l Value, channel: &str) -> &'l Value {
    let items = list["items"].as_array().expect("channels");
    items.iter().find(|item| item["channel"] == channel).expect("the channel")
}

on_each_database! {
    async fn each_channel_shows_its_provider_and_state(kind: Database) {
        let settings = [
            ("email.rate_per_second", "2.5"), ("email.timeout", "3s"), ("email.breaker_failures", "5"),
            ("email.retry_delays", "1s, 500ms"), ("in_app.base_url", ""),
        ];
        let service = Service::start_with(kind, &settings).await;
        let list = service.get("/channels").await;
        let channels: Vec<&Value> = list["items"].as_array().expect("channels").iter().map(|item| &item["channel"]).collect();
        assert_eq!(channels, ["sms", "email", "push", "webhook", "discord", "in_app", "request"]);
        assert_eq!(named(&list, "email"), &json!({
            "channel": "email", "state": "healthy", "rests_for_seconds": null, "via": "gateway", "missing": null,
            "rate_per_second": 2.5, "concurrency": 16, "timeout_ms": 3000, "breaker_failures": 5,
            "retry_delays": {"mailings_ms": [1000, 500], "notifications_ms": [1000, 500]},
        }));
        assert_eq!(named(&list, "sms")["retry_delays"], json!({"mailings_ms": [1000, 2000, 4000], "notifications_ms": [5000, 30000, 120_000]}));
        let webhook = named(&list, "webhook");
        assert_eq!((&webhook["state"], &webhook["via"]), (&json!("unconfigured"), &json!("nothing")));
        assert!(webhook["missing"].as_str().is_some_and(|text| text.contains("WEBHOOK_SECRET")), "{webhook}");
        assert_eq!((&named(&list, "in_app")["state"], &named(&list, "in_app")["via"]), (&json!("healthy"), &json!("direct")));
    }
}

on_each_database! {
    async fn a_throttling_or_failing_provider_is_shown(kind: Database) {
        let settings = [("sms.breaker_failures", "1"), ("channels.timeout", "2s")];
        let service = Service::start_with(kind, &settings).await;
        service.faults(Faults { rate_limit: NonZeroU32::new(1), ..Faults::default() });
        for _ in 0..10 {
            service.post("/notifications", json!({"channel": "email", "recipient": "a@b.com", "content": "x"})).await;
        }
        let limited = service.wait_for("/channels", |list| named(list, "email")["state"] == "limited").await;
        assert!(named(&limited, "email")["rests_for_seconds"].as_f64().is_some_and(|rest| rest > 0.0), "{limited}");
        service.faults(Faults { error_rate: 1.0, ..Faults::default() });
        service.post("/notifications", json!({"channel": "sms", "recipient": "+79031234567", "content": "x"})).await;
        let open = service.wait_for("/channels", |list| named(list, "sms")["state"] == "open").await;
        assert_eq!(named(&open, "push")["state"], "healthy", "channels are independent");
    }
}

on_each_database! {
    async fn a_test_message_returns_its_outcome(kind: Database) {
        let service = Service::start(kind).await;
        for (channel, recipient) in [("sms", "+79031234567"), ("email", "a@b.com"), ("push", "token"), ("in_app", "user-1")] {
            let path = format!("/channels/{channel}/test");
            let sent = ask(&service, "POST", &path, Some(json!({"recipient": recipient}))).await.success(200);
            assert_eq!((&sent["status"], &sent["channel"], &sent["priority"]), (&json!("sent"), &json!(channel), &json!("high")));
            assert_eq!(sent["subject"].is_null(), channel == "sms", "{sent}");
        }
        let own = json!({"recipient": "a@b.com", "content": "mine", "subject": "own"});
        let sent = ask(&service, "POST", "/channels/email/test", Some(own)).await.success(200);
        assert_eq!((&sent["content"], &sent["subject"]), (&json!("mine"), &json!("own")));
        service.faults(Faults { error_rate: 1.0, ..Faults::default() });
        let failed = ask(&service, "POST", "/channels/sms/test", Some(json!({"recipient": "+79031234567"}))).await.success(200);
        assert_eq!((&failed["status"], &failed["max_retries"]), (&json!("failed"), &json!(0)), "one attempt");
        assert!(failed["error"].as_str().is_some_and(|text| text.contains("provider returned 5")), "{failed}");
        let wrong = ask(&service, "POST", "/channels/email/test", Some(json!({"recipient": "nobody"}))).await.problem(422);
        assert_eq!(wrong["errors"][0]["field"], "recipient");
        let nowhere = ask(&service, "POST", "/channels/webhook/test", Some(json!({"recipient": "https://example.com/"}))).await.problem(422);
        assert_eq!(nowhere["errors"][0]["field"], "channel");
        for unknown in ["fax", "request"] {
            ask(&service, "POST", &format!("/channels/{unknown}/test"), Some(json!({"recipient": "1"}))).await.problem(404);
        }
    }
}
