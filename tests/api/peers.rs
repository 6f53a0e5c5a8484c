//! Responses of other servers to requests: redirects and `Retry-After`.

use std::time::Duration;

use chrono::DateTime;
use fanfare::clock::Clock;
use serde_json::{Value, json};

use crate::api::ask::{ask, id_of};
use crate::on_each_database;
use crate::support::listener::{Arrival, Listener, Reply};
use crate::support::{Service, after};

const SOON: [(&str, &str); 2] =
    [("egress.allow", "127.0.0.0/8"), ("request.retry_delays", "10ms, 20ms, 30ms")];

async fn wait_for_end(service: &Service, id: &str) -> Value {
    service.wait_for(&format!("/requests/{id}"), |seen| !seen["finished_at"].is_null()).await
}

async fn post(service: &Service, body: Value) -> String {
    id_of(&ask(service, "POST", "/requests", Some(body)).await.success(202))
}

on_each_database! {
    async fn a_redirect_is_reported_and_fails_if_configured(kind: Database) {
        let service = Service::start_with(kind, &SOON).await;
        let moved = |arrival: &Arrival, _| match arrival.path.as_str() {
            "/elsewhere" => Reply::from(200),
            _ => Reply::of(301, "").with("location", "/elsewhere"),
        };
        let listener = Listener::start(moved).expect("a listener");
        let request = json!({"url": format!("{}/here", listener.base)});
        let seen = wait_for_end(&service, &post(&service, json!({"request": request})).await).await;
        assert_eq!((&seen["status"], &seen["response"]["status"]), (&json!("sent"), &json!(301)));
        let warning = seen["response"]["warning"].as_str().expect("a warning");
        assert!(warning.contains("redirect") && warning.contains("3xx"), "{warning}");
        for on in ["3xx", "301"] {
            let body = json!({"request": request, "retry": {"on": [on], "delays": ["10ms"]}});
            let seen = wait_for_end(&service, &post(&service, body).await).await;
            assert_eq!((&seen["status"], &seen["attempt_count"]), (&json!("failed"), &json!(2)), "{on}");
            assert!(seen["error"].as_str().is_some_and(|why| why.contains("301")), "{seen}");
        }
        assert!(listener.at("/elsewhere").is_empty(), "the redirect was followed");
        let fine = json!({"request": {"url": format!("{}/elsewhere", listener.base)}});
        let seen = wait_for_end(&service, &post(&service, fine).await).await;
        assert!(seen["response"].get("warning").is_none(), "{seen}");
    }
}

on_each_database! {
    async fn a_redirected_report_is_retried_and_becomes_a_dead_letter(kind: Database) {
        let service = Service::start_with(kind, &SOON).await;
        let listener = Listener::start(|arrival: &Arrival, _| match arrival.path.as_str() {
            "/report" => Reply::of(301, "").with("location", "/elsewhere"),
            _ => Reply::from(200),
        }).expect("a listener");
        let body = json!({
            "request": {"url": format!("{}/run", listener.base)},
            "notify": {"request": {"url": format!("{}/report", listener.base)}}
        });
        let made = ask(&service, "POST", "/requests", Some(body)).await.success(202);
        let on = made["notify"]["retry"]["on"].as_array().expect("a list");
        assert!(on.contains(&json!("3xx")) && !made["retry"]["on"].to_string().contains("3xx"), "{made}");
        let path = format!("/requests/{}", id_of(&made));
        let seen = service.wait_for(&path, |seen| seen["reports"][0]["status"] == "failed").await;
        assert_eq!((&seen["status"], &seen["reports"][0]["attempt_count"]), (&json!("sent"), &json!(4)));
        assert_eq!(listener.at("/report").len(), 4);
        let report = seen["reports"][0]["id"].as_str().expect("an id");
        let letter = service.get(&format!("/dead-letters/{report}")).await;
        assert_eq!((&letter["channel"], &letter["class"]), (&json!("request"), &json!("exhausted")));
        assert!(listener.at("/elsewhere").is_empty());
    }
}

/// Returns the date six seconds from now in a format of RFC 9110.
fn in_six_seconds(form: &str) -> String {
    (Clock::System.now().datetime() + Duration::from_secs(6)).format(form).to_string()
}

on_each_database! {
    async fn retry_after_is_respected_up_to_the_maximum(kind: Database) {
        let service = Service::start_with(kind, &[SOON[0], SOON[1], ("retry.after_max", "40m")]).await;
        let listener = Listener::start(|arrival: &Arrival, before| {
            if before > 0 {
                return Reply::from(200);
            }
            let wait = match arrival.path.trim_start_matches('/') {
                "imf" => in_six_seconds("%a, %d %b %Y %H:%M:%S GMT"),
                "rfc850" => in_six_seconds("%A, %d-%b-%y %H:%M:%S GMT"),
                "asctime" => in_six_seconds("%a %b %e %H:%M:%S %Y"),
                seconds => seconds.to_owned(),
            };
            Reply::of(503, "").with("retry-after", wait)
        }).expect("a listener");
        for (path, seconds) in [
            ("imf", 4..=6),
            ("rfc850", 4..=6),
            ("asctime", 4..=6),
            ("1200", 1199..=1201),
            ("60000", 2399..=2401),
            ("1796059126", 2399..=2401),
            ("18446744073709551615", 2399..=2401),
            ("99999999999999999999999999", 2399..=2401),
        ] {
            let id = post(&service, json!({"request": {"url": format!("{}/{path}", listener.base)}})).await;
            let is_waiting = |seen: &Value| seen["attempt_count"] == 1 && !seen["next_attempt_at"].is_null();
            let seen = service.wait_for(&format!("/requests/{id}"), is_waiting).await;
            let at = |name: &str| {
                DateTime::parse_from_rfc3339(seen[name].as_str().expect("a time")).expect("RFC 3339")
            };
            let waits = (at("next_attempt_at") - at("executed_at")).num_seconds();
            assert!(seconds.contains(&waits), "{path}: {waits} s");
        }
        // but never past the end of the message
        let body = json!({
            "request": {"url": format!("{}/1300", listener.base)}, "retry": {"until": after(Duration::from_secs(600))}
        });
        let seen = wait_for_end(&service, &post(&service, body).await).await;
        assert_eq!((&seen["status"], &seen["attempt_count"]), (&json!("expired"), &json!(1)), "{seen}");
    }
}
