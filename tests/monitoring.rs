//! Checks that the metrics which `monitoring/` uses exist: a real Prometheus scrapes the service and evaluates the
//! dashboard.

mod files;
mod prometheus;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::monitoring::files::{alerts, dashboard_queries, filled, metric_names};
use crate::monitoring::prometheus::Prometheus;
use crate::on_each_database;
use crate::support::{Database, Service};

/// Metrics that exist only while Kafka partitions are read, since their labels name topics.
const OF_PARTITIONS: &str = "fanfare_broker_lag";

/// Returns the names of the series in `/metrics`.
async fn exported(service: &Service) -> BTreeSet<String> {
    let answer = service.http.get(format!("{}/metrics", service.base)).send().await.expect("an answer");
    let text = answer.text().await.expect("a body");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut names = BTreeSet::new();
    for (name, kind) in types.filter_map(|line| line.split_once(' ')) {
        match kind {
            "histogram" => names.extend(["bucket", "count", "sum"].map(|part| format!("{name}_{part}"))),
            _ => drop(names.insert(name.to_owned())),
        }
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_the_dashboard_and_the_alerts_name_is_exported() {
    let service = Service::start(Database::Sqlite).await;
    service.get("/clients").await;
    let mut exported = exported(&service).await;
    assert!(
        exported.insert(OF_PARTITIONS.to_owned()),
        "{OF_PARTITIONS} shows without partitions: it need not be an exception"
    );
    let mut seen = BTreeSet::new();
    for (asker, query) in dashboard_queries().into_iter().chain(alerts()) {
        for name in metric_names(&query) {
            assert!(exported.contains(&name), "{asker} asks for `{name}`, which /metrics does not export");
            seen.insert(name);
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
}

on_each_database! {
    async fn a_real_prometheus_scrapes_the_service_and_answers_every_query_of_the_dashboard(kind: Database) {
        let service = Service::start_with(kind, &[("channels.rate_per_second", "100")]).await;
        service.import(300, "all").await;
        let prometheus = Prometheus::start(&service).await;
        // two scrapes before anything happens, since a rate is a difference
        prometheus.wait_for("min(count_over_time(up{job=\"fanfare\"}[1m])) >= 2").await;
        let id = service.mail("all", Duration::from_secs(60)).await;
        assert_eq!(service.finished(&id).await["sent"], 300);
        prometheus.wait_for("sum(fanfare_messages_sent_total) == 300").await;

        let queries = dashboard_queries();
        assert!(queries.len() > 20, "{}", queries.len());
        for (panel, query) in &queries {
            let query = filled(query);
            assert!(!query.contains('$'), "{panel}: a variable that the dashboard does not have: {query}");
            if metric_names(&query).iter().any(|name| name == OF_PARTITIONS) {
                // no partition is read here, so the query is valid and empty
                assert!(prometheus.query(&query).await.is_empty(), "{panel}: {query}");
                continue;
            }
            // no query is empty by nature: every series begins at zero, and those that may be absent use `or vector(0)`
            let numbers = prometheus.wait_for(&query).await;
            assert!(numbers.iter().any(|number| number.is_finite()), "{panel}: nothing but {numbers:?} for {query}");
        }
        for (query, least) in [
            ("sum(fanfare_messages_sent_total)", 300.0),
            ("sum(increase(fanfare_attempt_duration_seconds_count{outcome=\"delivered\"}[1m]))", 100.0),
            ("sum(rate(fanfare_messages_sent_total[1m]))", 1.0),
        ] {
            let numbers = prometheus.wait_for(query).await;
            assert!(numbers[0] >= least, "{query}: {numbers:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_loads_every_alert_and_none_fires_for_a_service_that_is_well() {
    let service = Service::start(Database::Sqlite).await;
    let prometheus = Prometheus::start(&service).await;
    let loaded = prometheus.rules_once_evaluated().await;
    let names: BTreeSet<&str> = loaded.iter().map(|rule| rule["name"].as_str().expect("a name")).collect();
    let written = alerts();
    assert_eq!(names, written.iter().map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>());
    for rule in &loaded {
        assert_eq!(rule["type"], "alerting");
        assert_eq!((&rule["health"], &rule["lastError"]), (&Value::from("ok"), &Value::Null), "{rule}");
        assert_eq!(rule["state"], "inactive", "{rule}");
    }
}
