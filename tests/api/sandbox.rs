//! The sandbox mode: with SANDBOX_URL all messages and requests go to the sandbox instead of their targets.

use fanfare::sandbox::{Faults, Sandbox, SandboxArgs};
use serde_json::{Value, json};

use crate::api::ask::{ask, id_of};
use crate::on_each_database;
use crate::support::listener::Listener;
use crate::support::{Database, Service};

/// Starts a service without providers, its sandbox, and a server that must not receive requests.
async fn start_with_sandbox(kind: Database) -> (Service, Sandbox, Listener) {
    let sandbox = Sandbox::start(SandboxArgs::on_free_port()).expect("a sandbox");
    let url = sandbox.base_url();
    let none = ["sms", "email", "push", "discord", "in_app"].map(|channel| format!("{channel}.base_url"));
    let mut settings = vec![
        ("sandbox.url", url.as_str()),
        ("egress.allow", "127.0.0.0/8"),
        ("request.retry_delays", "10ms, 20ms"),
    ];
    settings.extend(none.iter().map(|key| (key.as_str(), "")));
    let service = Service::start_with(kind, &settings).await;
    (service, sandbox, Listener::start(|_, _| 200_u16).expect("a listener"))
}

on_each_database! {
    async fn discord_messages_webhooks_and_requests_with_their_reports_go_to_the_sandbox(kind: Database) {
        let (service, sandbox, outside) = start_with_sandbox(kind).await;
        let channels = service.get("/channels").await;
        for channel in channels["items"].as_array().expect("channels") {
            let expected = if channel["channel"] == "in_app" { "direct" } else { "sandbox" };
            assert_eq!(channel["via"], expected, "{channel}");
        }
        for channel in ["discord", "webhook"] {
            let recipient = format!("{}/{channel}", outside.base);
            let body = json!({"channel": channel, "recipient": recipient, "content": "hello"});
            let id = id_of(&service.post("/notifications", body).await);
            let path = format!("/notifications/{id}");
            service.wait_for(&path, |seen| seen["status"] == "sent").await;
        }
        let body = json!({
            "request": {"url": format!("{}/run", outside.base), "verb": "PUT", "body": {"a": 1}},
            "notify": {"request": {"url": format!("{}/report", outside.base)}},
        });
        let made: Value = ask(&service, "POST", "/requests", Some(body)).await.success(202);
        let ran = service.wait_for(&format!("/requests/{}", id_of(&made)), |seen| !seen["finished_at"].is_null()).await;
        assert_eq!((&ran["status"], &ran["response"]["status"]), (&json!("sent"), &json!(200)), "{ran}");
        // the report is a separate request
        service.wait_for("/channels", |_| sandbox.stats().channels.request == 2).await;
        let received = sandbox.stats();
        assert_eq!((received.channels.discord, received.channels.webhook, received.repeated), (1, 1, 0));
        assert_eq!(outside.arrivals().len(), 0, "no request reached its target");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_retried_when_the_sandbox_fails() {
    let (service, sandbox, _) = start_with_sandbox(Database::Sqlite).await;
    sandbox.set_faults(Faults { error_rate: 1.0, ..Faults::default() }).expect("faults");
    let body = json!({"request": {"url": "https://example.com/run", "verb": "GET"}});
    let made: Value = ask(&service, "POST", "/requests", Some(body)).await.success(202);
    let path = format!("/requests/{}", id_of(&made));
    let seen = service.wait_for(&path, |seen| !seen["finished_at"].is_null()).await;
    assert_eq!((&seen["status"], &seen["response"]), (&json!("failed"), &Value::Null));
    assert_eq!(seen["attempts"].as_array().map(Vec::len), Some(3), "{seen}");
}
