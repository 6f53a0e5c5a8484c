//! The statistics of a node as JSON.

use std::time::Duration;

use fanfare::kinds::ChannelKind;
use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::api::ask::ask;
use crate::on_each_database;
use crate::support::Service;

async fn figures(service: &Service) -> Value {
    ask(service, "GET", "/metrics", None).await.success(200)
}

/// Returns true for a window without attempts.
fn is_empty(window: &Value) -> bool {
    let latency = json!({"p50": null, "p95": null, "p99": null, "max": null});
    *window == json!({"sent": 0, "failed": 0, "attempts": 0, "success_rate": null, "latency_ms": latency})
}

on_each_database! {
    async fn an_idle_node_shows_every_channel_with_zeroes(kind: Database) {
        let service = Service::start(kind).await;
        let figures = figures(&service).await;
        assert_eq!((&figures["mailings_running"], &figures["unrecorded"], &figures["next_scheduled"]), (&json!(0), &json!(0), &Value::Null));
        assert!(figures["uptime_seconds"].is_u64(), "{figures}");
        let channels = figures["channels"].as_object().expect("channels");
        assert_eq!(channels.len(), ChannelKind::ALL.len());
        for name in ChannelKind::ALL {
            let channel = &channels[name.as_str()];
            assert_eq!(channel["lane_depth"], json!({"high": 0, "normal": 0, "low": 0}));
            assert_eq!(channel["rate_limit"], json!({"waits": 0, "seconds_waited": 0.0}));
            for count in ["in_flight", "sent", "failed", "expired", "cancelled", "retries"] {
                assert_eq!(channel[count], 0, "{count}");
            }
            assert!(is_empty(&channel["last_minute"]) && is_empty(&channel["last_hour"]), "{channel}");
        }
    }
}

on_each_database! {
    async fn the_statistics_count_the_sent_messages(kind: Database) {
        let service = Service::start_with(kind, &[("channels.rate_per_second", "100")]).await;
        service.import(30, "all").await;
        let id = service.mail("all", Duration::from_secs(60)).await;
        service.finished(&id).await;
        // refused permanently
        service.faults(Faults { permanent_rate: 1.0, ..Faults::default() });
        let id = service.mail("all", Duration::from_secs(60)).await;
        assert_eq!(service.finished(&id).await["failed"], 30);
        let seen = figures(&service).await;
        let sms = &seen["channels"]["sms"];
        for (count, expected) in [("sent", 30), ("failed", 30), ("expired", 0), ("retries", 0), ("in_flight", 0)] {
            assert_eq!(sms[count], expected, "{count}: {sms}");
        }
        // a minute may pass between an attempt and this read, but not an hour
        let hour = &sms["last_hour"];
        assert_eq!((&hour["sent"], &hour["failed"], &hour["attempts"]), (&json!(30), &json!(30), &json!(60)));
        assert_eq!(hour["success_rate"], 0.5);
        let of = |name: &str| hour["latency_ms"][name].as_f64().expect("milliseconds");
        assert!(0.0 < of("p50") && of("p50") <= of("p95") && of("p95") <= of("p99") && of("p99") <= of("max"), "{hour}");
        assert!(sms["rate_limit"]["waits"].as_u64() > Some(0), "{sms}");
        assert!(sms["rate_limit"]["seconds_waited"].as_f64() > Some(0.0), "{sms}");
        assert!(is_empty(&seen["channels"]["email"]["last_hour"]), "{seen}");
    }
}

on_each_database! {
    async fn a_message_that_waits_for_its_next_attempt_is_scheduled(kind: Database) {
        let service = Service::start_with(kind, &[("retry.first_delay", "1h")]).await;
        service.faults(Faults { error_rate: 1.0, ..Faults::default() });
        service.import(3, "all").await;
        let id = service.mail("all", Duration::from_secs(90_000)).await;
        let seen = service.wait_for("/metrics", |seen| seen["channels"]["sms"]["retries"] == 3).await;
        let queued = service.get(&format!("/mailings/{id}/messages?status=queued")).await;
        let earliest = queued["items"].as_array().expect("items").iter().filter_map(|item| item["due_at"].as_str()).min();
        assert_eq!(seen["next_scheduled"].as_str(), earliest);
        assert_eq!(seen["mailings_running"], 1);
        assert_eq!(seen["channels"]["sms"]["last_hour"]["success_rate"], 0.0);
    }
}
