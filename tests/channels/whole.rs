//! The whole service with real peers behind its channels: mailings over e-mail and webhooks, and the outcome of each
//! message.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::channels::peer::Peer;
use crate::on_each_database;
use crate::support::{Service, after};

/// Returns status, attempts and error of each message of a mailing, by recipient.
async fn outcomes(service: &Service, mailing: &str) -> BTreeMap<String, (String, i64, String)> {
    let list = service.get(&format!("/mailings/{mailing}/messages?limit=1000")).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let (to, attempts) = (text(&item["recipient"]), item["attempts"].as_i64().unwrap());
            let last = to.rsplit('/').next().unwrap_or_default().split('@').next().unwrap_or_default();
            (last.to_owned(), (text(&item["status"]), attempts, text(&item["error"])))
        })
        .collect()
}

/// Sends a mailing to everyone. Returns its id once it is finished.
async fn mail(service: &Service, mut body: Value) -> String {
    body["ends_at"] = json!(after(std::time::Duration::from_secs(600)));
    let id = service.post("/mailings", body).await["id"].as_str().unwrap().to_owned();
    service.wait_for(&format!("/mailings/{id}"), |mailing| !mailing["finished_at"].is_null()).await;
    id
}

on_each_database! {
    async fn a_mailing_over_email_ends_as_the_server_said_of_each_recipient(kind: Database) {
        let mut server = Peer::python("smtp.py", &[]);
        let ready: Value = serde_json::from_str(&server.ready).unwrap();
        let url = format!("smtp://127.0.0.1:{}", ready["port"]);
        let service = Service::start_with(kind, &[
            ("email.base_url", ""), ("email.smtp_url", &url), ("email.tls", "none"), ("email.retry_delays", "1ms"),
            ("email.from", "Shop <news@example.com>"), ("email.unsubscribe_url", "https://example.com/u?m={id}"),
        ]).await;
        for (number, name) in ["ann", "gone", "later", "denied", "spam", "busy", ""].iter().enumerate() {
            let email = if name.is_empty() { Value::Null } else { json!(format!("{name}@example.net")) };
            let fields = json!({"phone_number": format!("7903000000{number}"), "email": email, "attributes": {"name": "<Ann>"}});
            service.post("/clients", fields).await;
        }
        let body = json!({"channel": "email", "subject": "Dear {{ name }}", "text": "Hello, {{ name }}", "html": "<p>{{ name }}</p>"});
        let id = mail(&service, body).await;
        let found = outcomes(&service, &id).await;
        let is = |name: &str, status: &str, attempts: i64, why: &str| {
            let (found_status, found_attempts, error) = &found[name];
            assert_eq!((found_status.as_str(), *found_attempts), (status, attempts), "{name}: {error}");
            assert!(error.contains(why), "{name}: {error}");
        };
        is("ann", "sent", 1, "");
        is("gone", "failed", 1, "550 5.1.1");
        is("denied", "failed", 1, "550 5.7.1");
        is("spam", "failed", 1, "554 5.7.1");
        is("later", "failed", 2, "450 4.2.0");
        is("busy", "failed", 2, "451 4.3.0");
        is("", "failed", 0, "no e-mail address");
        let counts = service.get(&format!("/mailings/{id}/stats")).await["counts"].clone();
        assert_eq!((&counts["total"], &counts["sent"], &counts["failed"]), (&json!(7), &json!(1), &json!(6)));

        let seen: Value = serde_json::from_str(&server.line()).unwrap();
        assert_eq!(seen["to"], json!(["ann@example.net"]));
        let message = service.get(&format!("/mailings/{id}/messages?status=sent")).await["items"][0]["id"].clone();
        let message = message.as_str().unwrap();
        let headers = seen.to_string();
        for part in [
            "Dear <Ann>", "Hello, <Ann>", "<p>&lt;Ann&gt;</p>", &format!("<{message}@example.com>"),
            &format!("https://example.com/u?m={message}"), "List-Unsubscribe=One-Click",
        ] {
            assert!(headers.contains(part), "{part}: {headers}");
        }
    }
}

on_each_database! {
    async fn a_mailing_over_webhooks_is_signed_and_one_endpoint_never_holds_up_the_others(kind: Database) {
        let secret = fanfare::channels::webhook::Secret::generate().unwrap();
        let mut server = Peer::python("webhook.py", &[secret.expose()]);
        let service = Service::start_with(kind, &[
            ("webhook.secret", secret.expose()), ("egress.allow", "127.0.0.1"), ("webhook.retry_delays", "1ms"),
            ("webhook.timeout", "2s"), ("webhook.breaker_failures", "1"),
        ]).await;
        let paths = ["ok", "flaky", "gone", "redirect", "slow", "garbage", "huge"];
        for (number, path) in paths.iter().enumerate() {
            let url = json!({"webhook_url": format!("http://{}/{path}", server.ready)});
            service.post("/clients", json!({"phone_number": format!("7903000000{number}"), "attributes": url})).await;
        }
        let id = mail(&service, json!({"channel": "webhook", "text": "hello"})).await;
        let found = outcomes(&service, &id).await;
        for (path, status, attempts) in [
            ("ok", "sent", 1), ("flaky", "sent", 2), ("huge", "sent", 1), ("gone", "failed", 1), ("redirect", "failed", 1),
            ("slow", "failed", 2), ("garbage", "failed", 2),
        ] {
            let (found_status, found_attempts, error) = &found[path];
            assert_eq!((found_status.as_str(), *found_attempts), (status, attempts), "{path}: {error}");
        }
        for _ in 0..found.values().map(|(_, attempts, _)| attempts).sum::<i64>() {
            let line = server.line();
            assert!(line.starts_with("ok "), "every signature verifies: {line}");
        }
        let channels = service.get("/channels").await;
        let webhook = channels["items"].as_array().unwrap().iter().find(|item| item["channel"] == "webhook").unwrap();
        assert_eq!(webhook["state"], "healthy", "what one endpoint does says nothing of the channel");

        // an endpoint that returned 410 gets no more messages until a user enables it
        let is_gone = |list: &Value| {
            list["items"].as_array().unwrap().iter().any(|item| item["disabled_reason"] == "gone")
        };
        let list = service.wait_for("/webhook-endpoints", is_gone).await;
        let gone = list["items"].as_array().unwrap().iter().find(|item| item["disabled_reason"] == "gone").unwrap();
        let trial = json!({"recipient": gone["url"]});
        let is_disabled = |failed: &Value| {
            failed["status"] == "failed" && failed["error"].as_str().is_some_and(|text| text.contains("disabled"))
        };
        let failed = service.post("/channels/webhook/test", trial.clone()).await;
        assert!(is_disabled(&failed), "{failed}");
        service.post(&format!("/webhook-endpoints/{}/enable", gone["id"].as_str().unwrap()), json!({})).await;
        let asked = service.post("/channels/webhook/test", trial).await;
        assert_eq!(asked["status"], "failed");
        assert!(asked["error"].as_str().is_some_and(|text| text.contains("410")), "{asked}");
    }
}

on_each_database! {
    async fn a_url_that_leads_where_nobody_may_go_is_refused_at_the_door(kind: Database) {
        let secret = fanfare::channels::webhook::Secret::generate().unwrap();
        let service = Service::start_with(kind, &[("webhook.secret", secret.expose())]).await;
        for url in [
            "http://example.com/", "https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data", "https://localhost/", "https://１２７.0.0.1/",
        ] {
            for channel in ["webhook", "discord"] {
                let body = json!({"channel": channel, "recipient": url, "content": "x"});
                let (status, problem) = service.call("POST", "/notifications", Some(body)).await;
                assert_eq!(status, 422, "{url}: {problem}");
                assert_eq!(problem["errors"][0]["field"], "recipient", "{url}");
            }
        }
    }
}
