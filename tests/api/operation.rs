//! Probes, metrics and request ids.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::api::ask::{ask, send};
use crate::on_each_database;
use crate::support::Service;

/// The metrics that `/metrics` shows from the start, with their types. docs/metrics.md and the dashboard use these
/// names.
const METRICS: &[(&str, &str)] = &[
    ("fanfare_build_info", "gauge"),
    ("fanfare_active_tasks", "gauge"),
    ("fanfare_events_total", "counter"),
    ("fanfare_broker_connected", "gauge"),
    ("fanfare_broker_events_total", "counter"),
    ("fanfare_broker_redelivered_total", "counter"),
    ("fanfare_broker_pending", "gauge"),
    // fanfare_broker_lag appears with the first assigned partition; tests/kafka checks it
    ("fanfare_broker_lost_total", "counter"),
    ("fanfare_broker_rebalances_total", "counter"),
    ("fanfare_messages_total", "counter"),
    ("fanfare_messages_sent_total", "counter"),
    ("fanfare_messages_failed_total", "counter"),
    ("fanfare_messages_expired_total", "counter"),
    ("fanfare_messages_cancelled_total", "counter"),
    ("fanfare_messages_opted_out_total", "counter"),
    ("fanfare_messages_deferred_total", "counter"),
    ("fanfare_dead_letters_total", "counter"),
    ("fanfare_dead_letter_replays_total", "counter"),
    ("fanfare_dead_letters_closed_total", "counter"),
    ("fanfare_dead_letters_open", "gauge"),
    ("fanfare_retries_total", "counter"),
    ("fanfare_attempt_duration_seconds", "histogram"),
    ("fanfare_schedule_lateness_seconds", "histogram"),
    ("fanfare_lane_depth", "gauge"),
    ("fanfare_backlog", "gauge"),
    ("fanfare_circuit_state", "gauge"),
    ("fanfare_throttled_total", "counter"),
    ("fanfare_local_faults_total", "counter"),
    ("fanfare_in_flight", "gauge"),
    ("fanfare_rate_limit_waits_total", "counter"),
    ("fanfare_rate_limit_wait_seconds_total", "counter"),
    ("fanfare_unrecorded_outcomes", "gauge"),
    ("fanfare_mailings_running", "gauge"),
    ("fanfare_sending_paused", "gauge"),
    ("fanfare_recorder_errors_total", "counter"),
    ("fanfare_watchdog_ticks_total", "counter"),
    ("fanfare_http_connections", "gauge"),
    ("fanfare_http_connections_closed_total", "counter"),
    ("fanfare_db_pool_connections", "gauge"),
    ("fanfare_clock_offset_seconds", "gauge"),
    ("fanfare_db_write_duration_seconds", "histogram"),
    ("fanfare_http_requests_total", "counter"),
    ("fanfare_http_request_duration_seconds", "histogram"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_open_fds", "gauge"),
];

async fn metrics(service: &Service) -> String {
    let answer = send(service.http.get(format!("{}/metrics", service.base))).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    answer.text
}

/// Returns the value of a series.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().expect("a number")
}

on_each_database! {
    async fn a_listening_service_is_alive_and_ready(kind: Database) {
        let service = Service::start(kind).await;
        let health = send(service.http.get(format!("{}/health", service.base))).await.success(200);
        assert_eq!(health, json!({"status": "ok"}));
        let ready = send(service.http.get(format!("{}/ready", service.base))).await.success(200);
        assert_eq!(ready, json!({"status": "ready", "database": true, "watchdog": true, "engine": true, "sending_paused": false}));
    }
}

on_each_database! {
    async fn every_documented_metric_has_its_type_and_help(kind: Database) {
        let service = Service::start(kind).await;
        service.get("/clients").await;
        let text = metrics(&service).await;
        for (name, of_type) in METRICS {
            assert!(text.contains(&format!("# TYPE {name} {of_type}\n")), "{name}");
            assert!(text.lines().any(|line| line.strip_prefix(&format!("# HELP {name} ")).is_some_and(|help| help.len() > 5)), "{name}");
        }
        let documented: BTreeSet<&str> = METRICS.iter().map(|(name, _)| *name).collect();
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE fanfare_")?.split(' ').next()) {
            assert!(documented.contains(format!("fanfare_{name}").as_str()), "fanfare_{name} is not in this test's list");
        }
    }
}

on_each_database! {
    async fn the_counters_follow_a_mailing(kind: Database) {
        let service = Service::start(kind).await;
        service.import(40, "all").await;
        let id = service.mail("all", Duration::from_secs(60)).await;
        service.finished(&id).await;
        let text = metrics(&service).await;
        for (series, expected) in [
            ("fanfare_messages_total{channel=\"sms\"}", 40.0),
            ("fanfare_messages_sent_total{channel=\"sms\"}", 40.0),
            ("fanfare_messages_failed_total{channel=\"sms\"}", 0.0),
            ("fanfare_attempt_duration_seconds_count{channel=\"sms\",outcome=\"delivered\"}", 40.0),
            ("fanfare_schedule_lateness_seconds_count{channel=\"sms\"}", 40.0),
            ("fanfare_in_flight{channel=\"sms\"}", 0.0),
            ("fanfare_lane_depth{channel=\"sms\",priority=\"normal\"}", 0.0),
            ("fanfare_unrecorded_outcomes", 0.0),
        ] {
            assert_eq!(value(&text, series), expected, "{series}");
        }
        assert!(value(&text, "fanfare_db_write_duration_seconds_count") > 0.0);
        assert!(value(&text, "fanfare_watchdog_ticks_total") > 0.0);
        assert!(value(&text, "fanfare_active_tasks") > 0.0);
        assert!(value(&text, "process_resident_memory_bytes") > 1e6);
    }
}

on_each_database! {
    async fn requests_are_counted_by_route_and_labels_are_bounded(kind: Database) {
        let service = Service::start(kind).await;
        let client = service.post("/clients", json!({"phone_number": "79031234567"})).await;
        let id = crate::api::ask::id_of(&client);
        service.get(&format!("/clients/{id}")).await;
        service.get("/clients?tag=madeuptag").await;
        metrics(&service).await;
        let before = routes(&metrics(&service).await);
        for n in 0..20 {
            ask(&service, "GET", &format!("/madeup{n}"), None).await.problem(404);
            ask(&service, "GET", &format!("/clients/madeup{n}"), None).await.problem(422);
            ask(&service, "GET", &format!("/clients?madeup{n}=1"), None).await.problem(422);
            ask(&service, &format!("MADEUP{n}"), "/clients", None).await.problem(405);
        }
        let text = metrics(&service).await;
        for made_up in ["madeup", "MADEUP", id.as_str(), "79031234567"] {
            assert!(!text.contains(made_up), "{made_up} became a label");
        }
        assert_eq!(value(&text, "fanfare_http_requests_total{method=\"GET\",route=\"/api/v1/clients/{id}\",status=\"200\"}"), 1.0);
        assert_eq!(value(&text, "fanfare_http_requests_total{method=\"GET\",route=\"/api/v1/clients/{id}\",status=\"422\"}"), 20.0);
        assert_eq!(value(&text, "fanfare_http_requests_total{method=\"other\",route=\"/api/v1/clients\",status=\"405\"}"), 20.0);
        let new: Vec<String> = routes(&text).difference(&before).cloned().collect();
        assert_eq!(new.len(), 1, "one label for all unknown paths: {new:?}");
    }
}

fn routes(metrics: &str) -> BTreeSet<String> {
    let lines = metrics.lines().filter(|line| line.starts_with("fanfare_http_requests_total{"));
    lines.filter_map(|line| Some(line.split_once("route=\"")?.1.split_once('"')?.0.to_owned())).collect()
}

on_each_database! {
    async fn every_response_has_a_unique_request_id(kind: Database) {
        let service = Service::start_with(kind, &[("access.api_key", "correct horse battery")]).await;
        let mut ids = BTreeSet::new();
        let paths = ["/health", "/ready", "/metrics", "/", "/nope", "/api/v1/clients", "/api/v1/clients/nope", "/api/v1/docs/"];
        for key in ["correct horse battery", "wrong"] {
            for path in paths {
                let request = service.http.get(format!("{}{path}", service.base)).bearer_auth(key);
                // an id sent by the caller is ignored, because it is not trusted
                let answer = send(request.header("x-request-id", "madeup")).await;
                let id: uuid::Uuid = answer.header("x-request-id").parse().expect("a UUID");
                assert!(ids.insert(id), "{path}: a repeated id");
            }
        }
        assert_eq!(ids.len(), 2 * paths.len());
    }
}
