//! The gateway's path: notifications on every channel, under the same rules as text messages.

use super::*;

const CHANNELS: [&str; 6] = ["sms", "email", "push", "webhook", "discord", "in_app"];

async fn notify(sandbox: &Sandbox, client: &reqwest::Client, id: &str, body: &Value) -> Response {
    let url = format!("{}/v1/notify/{id}", sandbox.base_url());
    client.post(url).header("Idempotency-Key", id).json(body).send().await.unwrap()
}

fn to(channel: &str, id: &str) -> Value {
    json!({"id": id, "channel": channel, "recipient": "anna@example.com", "text": "Hi"})
}

#[tokio::test]
async fn every_channel_is_received_counted_and_logged_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let sandbox =
        Sandbox::start(SandboxArgs { log: Some(log.clone()), ..SandboxArgs::on_free_port() }).unwrap();
    let client = client();
    for (count, channel) in (1..).zip(CHANNELS) {
        for n in 0..count {
            let id = format!("{channel}-{n}");
            let answer = notify(&sandbox, &client, &id, &to(channel, &id)).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.json::<Value>().await.unwrap(), json!({"code": 0, "message": "OK"}));
        }
    }
    send(&sandbox, &client, ID).await.unwrap();
    let told: Value =
        client.get(format!("{}/stats", sandbox.base_url())).send().await.unwrap().json().await.unwrap();
    let by_channel =
        json!({"sms": 2, "email": 2, "push": 3, "webhook": 4, "discord": 5, "in_app": 6, "request": 0});
    assert_eq!(
        (&told["channels"], &told["received"], &told["distinct"]),
        (&by_channel, &json!(22), &json!(22))
    );
    let lines = log_lines(&log);
    assert_eq!(
        lines[1],
        json!({"at_us": lines[1]["at_us"], "id": "email-0", "key": "email-0", "channel": "email",
            "recipient": "anna@example.com", "outcome": "received"})
    );
    assert_eq!(lines[21]["phone"], 79_031_234_567_u64);
    client.delete(format!("{}/stats", sandbox.base_url())).send().await.unwrap();
    assert_eq!(sandbox.stats(), Stats::default());
    sandbox.stop().await;
}

#[tokio::test]
async fn what_is_no_notification_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let sandbox =
        Sandbox::start(SandboxArgs { log: Some(log.clone()), ..SandboxArgs::on_free_port() }).unwrap();
    let client = client();
    let with = |key: &str, value: Value| {
        let mut body = to("email", ID);
        body[key] = value;
        body
    };
    let wrong = [
        (json!({}), "missing field `id`"),
        (with("id", json!("another")), "the id in the path is not the id in the body"),
        (with("channel", json!("fax")), "unknown variant `fax`, expected one of `sms`, `email`"),
        (with("channel", Value::Null), "channel"),
        (with("recipient", json!("")), "the recipient is empty"),
        (with("recipient", json!(79_031_234_567_u64)), "invalid type"),
        (with("subject", json!(1)), "invalid type"),
        (with("text", Value::Null), "invalid type"),
        (with("data", json!("{}")), "data is not an object"),
    ];
    for (body, reason) in &wrong {
        let answer = notify(&sandbox, &client, ID, body).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["code"], 1);
        // for a null channel the parser says only that it is not a string
        let said = answer["message"].as_str().unwrap();
        assert!(said.contains(reason) || (*reason == "channel" && !said.is_empty()), "{body}: {said}");
    }
    let url = format!("{}/v1/notify/{ID}", sandbox.base_url());
    for key in [None, Some("another")] {
        let request = client.post(&url).json(&to("email", ID));
        let request = key.into_iter().fold(request, |request, key| request.header("Idempotency-Key", key));
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer, json!({"code": 1, "message": "the Idempotency-Key is not the id"}));
    }
    let stats = sandbox.stats();
    assert_eq!((stats.requests, stats.received, stats.by_status.rejected), (11, 0, 11));
    assert_eq!(stats.channels, ByChannel::default());
    let lines = log_lines(&log);
    let unread = (&lines[0]["channel"], &lines[0]["recipient"], &lines[0]["outcome"]);
    assert_eq!(unread, (&Value::Null, &Value::Null, &json!("rejected")));
    assert_eq!(lines[1]["recipient"], "anna@example.com");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_subject_and_data_are_taken_and_what_is_not_known_is_left_alone() {
    let sandbox = with(Faults::default());
    let body = json!({"id": ID, "channel": "push", "recipient": "token", "subject": "Hi", "text": "",
        "data": {"order": 7, "tags": ["a"]}, "more": true});
    assert_eq!(notify(&sandbox, &client(), ID, &body).await.status(), StatusCode::OK);
    let body =
        json!({"id": ID, "channel": "push", "recipient": "token", "subject": null, "text": "", "data": null});
    assert_eq!(notify(&sandbox, &client(), ID, &body).await.status(), StatusCode::OK);
    assert_eq!((sandbox.stats().received, sandbox.stats().repeats), (2, 1));
    sandbox.stop().await;
}

#[tokio::test]
async fn faults_the_limit_and_the_token_are_for_both_paths() {
    let token = Some(SecretString::from("secret"));
    let sandbox = Sandbox::start(SandboxArgs { token, ..SandboxArgs::on_free_port() }).unwrap();
    let client = client();
    assert_eq!(notify(&sandbox, &client, ID, &to("email", ID)).await.status(), StatusCode::UNAUTHORIZED);
    sandbox.stop().await;

    let sandbox = with(Faults { error_rate: 1.0, ..Faults::default() });
    let answer = notify(&sandbox, &client, ID, &to("discord", ID)).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    sandbox.set_faults(Faults { garbage_rate: 1.0, ..Faults::default() }).unwrap();
    let answer = notify(&sandbox, &client, ID, &to("discord", ID)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.json::<Value>().await.is_err());
    let stats = sandbox.stats();
    assert_eq!((stats.by_status.error, stats.by_status.garbage, stats.channels.discord), (1, 1, 1));
    sandbox.stop().await;
}
