//! Discord webhooks and a Slack-like one, against a stand-in that checks requests by their documentation.

use std::sync::Arc;
use std::time::Duration;

use fanfare::channels::discord::{Discord, DiscordSettings};
use fanfare::channels::{AttemptReport, Channel, Delivery, DeliveryResult};
use fanfare::clock::Clock;
use serde_json::{Value, json};

use crate::channels::hook::{delivery, guard};
use crate::channels::peer::Peer;

fn discord() -> Discord {
    let settings = DiscordSettings { hosts: vec!["127.0.0.1".into()] };
    Discord::new(settings, guard(Duration::from_secs(60)), Clock::System)
}

fn to(peer: &Peer, path: &str) -> Delivery {
    delivery(format!("http://{}{path}", peer.ready))
}

/// Returns the message in a line that the peer printed.
fn message(line: &str, of: &str) -> Value {
    serde_json::from_str(line.strip_prefix(&format!("ok {of} ")).unwrap_or_default())
        .unwrap_or_else(|_| panic!("{line}"))
}

#[tokio::test]
async fn a_message_is_as_documented_and_a_second_attempt_is_the_first_message() {
    let mut peer = Peer::python("discord.py", &[]);
    let discord = discord();
    let data =
        Some(Arc::from(r#"{"embeds": [{"title": "T", "color": 5}], "username": "Fanfare", "tts": false}"#));
    let delivery = Delivery { data, ..to(&peer, "/api/v10/webhooks/1/token?thread_id=5&wait=false") };
    let first = discord.send(delivery.clone()).await;
    assert_eq!((&first.verdict, first.status_code), (&DeliveryResult::Delivered, Some(200)));
    assert_eq!(first.provider_id.as_deref(), Some("1200000000000000000"));
    let message = message(&peer.line(), "1");
    assert_eq!(message["content"], "**Ünïcode ✓**\nHello \"you\" 🎺");
    assert_eq!((&message["username"], &message["embeds"][0]["title"]), (&json!("Fanfare"), &json!("T")));
    assert_eq!(message["allowed_mentions"], json!({"parse": []}));
    assert_eq!(discord.send(delivery).await.provider_id, first.provider_id);
    peer.line();
    let other = discord.send(to(&peer, "/api/webhooks/1/token")).await;
    assert_eq!(other.provider_id.as_deref(), Some("1200000000000000001"));
}

#[tokio::test]
async fn limits_and_webhooks_that_are_no_more_are_understood() {
    let mut peer = Peer::python("discord.py", &[]);
    let discord = discord();
    let wait = Duration::from_millis(650);
    let limited = to(&peer, "/api/webhooks/limited/token");
    let AttemptReport { verdict, .. } = discord.send(limited.clone()).await;
    assert!(
        matches!(verdict, DeliveryResult::Deferred { retry_after: Some(after), .. } if after == wait),
        "{verdict:?}"
    );
    assert_eq!(discord.send(limited).await.verdict, DeliveryResult::Delivered);
    let everybody = discord.send(to(&peer, "/api/webhooks/everybody/token")).await;
    assert_eq!(everybody.verdict, DeliveryResult::Throttled { retry_after: wait });
    for path in ["/api/webhooks/unknown/token", "/api/webhooks/1/stale"] {
        assert!(matches!(discord.send(to(&peer, path)).await.verdict, DeliveryResult::Gone { .. }), "{path}");
    }
    let data = Some(Arc::from(r#"{"username": ""}"#));
    let refused = discord.send(Delivery { data, ..to(&peer, "/api/webhooks/1/token") }).await;
    let error = "Discord returned 400 Bad Request with code 50035".to_owned();
    assert_eq!(refused.verdict, DeliveryResult::Permanent { error });
    let lines: Vec<_> = (0..6).map(|_| peer.line()).collect();
    assert_eq!((lines[0].as_str(), lines[3].as_str()), ("ok limited limited", "bad unknown"));
}

#[tokio::test]
async fn an_incoming_webhook_like_slacks_gets_a_text() {
    let mut peer = Peer::python("discord.py", &[]);
    let answer = discord().send(to(&peer, "/services/T0/B0/x")).await;
    assert_eq!((answer.verdict, answer.status_code), (DeliveryResult::Delivered, Some(200)));
    assert_eq!(message(&peer.line(), "slack"), json!({"text": "*Ünïcode ✓*\nHello \"you\" 🎺"}));
}
