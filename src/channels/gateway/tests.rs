use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::channels::DeliveryResult;
use crate::error::Error;
use crate::sandbox::{ByChannel, Faults, Sandbox, SandboxArgs};

const SETTING: &str = "email.base_url (EMAIL_PROVIDER_URL)";

fn gateway(kind: ChannelKind, base: &str) -> Gateway {
    Gateway::new(kind, (SETTING, base), None, Clock::System).unwrap()
}

fn delivery() -> Delivery {
    Delivery::to("anna@example.com", "Hi")
}

fn sandbox(faults: Faults) -> Sandbox {
    Sandbox::start(SandboxArgs { faults, ..SandboxArgs::on_free_port() }).unwrap()
}

fn error(answer: &AttemptReport) -> &str {
    match &answer.verdict {
        DeliveryResult::Transient { error, .. } | DeliveryResult::Permanent { error } => error,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn every_channel_goes_through_a_gateway() {
    let sandbox = sandbox(Faults::default());
    for kind in ChannelKind::TO_PEOPLE {
        let gateway = gateway(*kind, &sandbox.base_url());
        assert_eq!(gateway.kind(), *kind);
        let data = Some(Arc::from(r#"{"order": 7}"#));
        for delivery in [delivery(), Delivery { subject: Some("Hello".into()), data, ..delivery() }] {
            let answer = gateway.send(delivery).await;
            assert_eq!(
                (answer.verdict, answer.status_code),
                (DeliveryResult::Delivered, Some(200)),
                "{kind}"
            );
        }
    }
    let two_of_each = ByChannel { sms: 2, email: 2, push: 2, webhook: 2, discord: 2, in_app: 2, request: 0 };
    assert_eq!(sandbox.stats().channels, two_of_each);
    sandbox.stop().await;
}

#[tokio::test]
async fn the_request_is_as_documented_and_the_providers_id_is_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/mail/", listener.local_addr().unwrap());
    let gateway = gateway(ChannelKind::InApp, &base);
    // unchanged: neither its numbers nor its order may differ
    let data = r#"{"z": 1.50, "a": [10000000000000000000000]}"#;
    let sent = Delivery { subject: Some("Привет".into()), data: Some(data.into()), ..delivery() };
    let id = sent.id.to_string();
    let serve = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"}}") {
            assert!(socket.read_buf(&mut bytes).await.unwrap() > 0);
        }
        let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 22\r\n\r\n{\"code\":0,\"id\":\"at-7\"}";
        socket.write_all(answer).await.unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let (request, answer) = tokio::join!(serve, gateway.send(sent));
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("POST /mail/v1/notify/{id} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains(&format!("idempotency-key: {id}\r\n")), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    let expected = format!(
        r#"{{"id":"{id}","channel":"in_app","recipient":"anna@example.com","subject":"Привет","text":"Hi","data":{data}}}"#
    );
    assert_eq!(body, expected);
    assert_eq!((answer.status_code, answer.provider_id.as_deref()), (Some(202), Some("at-7")));
}

#[tokio::test]
async fn what_is_absent_is_not_in_the_request() {
    let body = Body {
        id: "x",
        channel: ChannelKind::Push,
        recipient: "token",
        subject: None,
        text: "",
        html: None,
        data: None,
    };
    let expected = json!({"id": "x", "channel": "push", "recipient": "token", "text": ""});
    assert_eq!(serde_json::to_value(&body).unwrap(), expected);
}

#[tokio::test]
async fn each_fault_is_what_it_is_on_the_other_channels() {
    let sandbox = sandbox(Faults::default());
    let gateway = gateway(ChannelKind::Webhook, &sandbox.base_url());
    let after = async |faults: Faults| {
        sandbox.set_faults(faults).unwrap();
        gateway.send(delivery()).await
    };

    let answer = after(Faults { error_rate: 1.0, ..Faults::default() }).await;
    assert!(matches!(answer.verdict, DeliveryResult::Transient { retry_after: None, .. }), "{answer:?}");
    assert_eq!(answer.status_code, Some(500));

    let answer = after(Faults { garbage_rate: 1.0, ..Faults::default() }).await;
    assert!(matches!(answer.verdict, DeliveryResult::Transient { .. }), "{answer:?}");
    assert!(error(&answer).contains("cannot be read"), "{answer:?}");
    assert_eq!(answer.status_code, Some(200));

    let answer = after(Faults { drop_rate: 1.0, ..Faults::default() }).await;
    assert!(matches!(answer.verdict, DeliveryResult::Transient { .. }), "{answer:?}");
    assert_eq!(answer.status_code, None);

    let answer = after(Faults { permanent_rate: 1.0, ..Faults::default() }).await;
    assert!(matches!(answer.verdict, DeliveryResult::Permanent { .. }), "{answer:?}");
    assert_eq!(answer.status_code, Some(400));

    // the requests fall into one or two seconds: at least one of three is over the limit, unless each took a second
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(after(Faults { rate_limit: NonZeroU32::new(1), ..Faults::default() }).await.verdict);
    }
    let second = Duration::from_secs(1);
    assert!(answers.contains(&DeliveryResult::Throttled { retry_after: second }), "{answers:?}");

    sandbox.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_away_is_asked_again_later() {
    let answer = gateway(ChannelKind::InApp, "http://127.0.0.1:1").send(delivery()).await;
    assert_eq!(answer, AttemptReport::none("the provider could not be reached"));
}

#[tokio::test]
async fn no_error_names_the_recipient_or_the_text() {
    let secret = "planted-secret";
    let sandbox = sandbox(Faults { permanent_rate: 1.0, ..Faults::default() });
    let gateway = gateway(ChannelKind::Discord, &sandbox.base_url());
    let planted = Delivery { recipient: secret.into(), text: secret.into(), ..delivery() };
    let broken = Delivery { data: Some(format!("{{{secret}").into()), ..planted.clone() };
    for delivery in [planted, broken] {
        let answer = gateway.send(delivery).await;
        assert!(matches!(answer.verdict, DeliveryResult::Permanent { .. }), "{answer:?}");
        assert!(!error(&answer).contains(secret), "{answer:?}");
    }
    assert_eq!(sandbox.stats().requests, 1, "data that is no JSON does not go out");
    sandbox.stop().await;
}

#[tokio::test]
async fn the_token_goes_with_each_request() {
    let token = SecretString::from("secret");
    let args = SandboxArgs { token: Some(token.clone()), ..SandboxArgs::on_free_port() };
    let sandbox = Sandbox::start(args).unwrap();
    let base = sandbox.base_url();
    let refused = gateway(ChannelKind::Email, &base).send(delivery()).await;
    assert_eq!(refused.status_code, Some(401));
    let bearing = Gateway::new(ChannelKind::Email, (SETTING, &base), Some(&token), Clock::System).unwrap();
    assert_eq!(bearing.send(delivery()).await.verdict, DeliveryResult::Delivered);
    sandbox.stop().await;
}

#[test]
fn an_address_that_cannot_be_used_is_named_by_its_setting() {
    let refused = Gateway::new(ChannelKind::Email, (SETTING, "http://u:p@host"), None, Clock::System).err();
    assert!(matches!(&refused, Some(Error::Invalid(fields)) if fields[0].field == SETTING), "{refused:?}");
}
