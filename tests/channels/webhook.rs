//! Webhooks, verified by the published Standard Webhooks library for Python.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare::channels::webhook::{SameForAll, Secret, Webhook};
use fanfare::channels::{AttemptReport, Channel, Delivery, DeliveryResult};
use fanfare::clock::Clock;
use futures_util::{StreamExt, stream};

use crate::channels::hook::{delivery, guard};
use crate::channels::peer::Peer;

const PATIENT: Duration = Duration::from_secs(60);

fn webhook(secrets: &[Secret], timeout: Duration) -> Webhook {
    Webhook::new(guard(timeout), Arc::new(SameForAll(secrets.to_vec())), Clock::System)
}

fn to(peer: &Peer, path: &str) -> Delivery {
    delivery(format!("http://{}{path}", peer.ready))
}

#[tokio::test]
async fn every_signature_verifies_with_each_secret_of_a_rotation() {
    let secrets = [Secret::generate().unwrap(), Secret::generate().unwrap()];
    let mut peer = Peer::python("webhook.py", &[secrets[0].expose(), secrets[1].expose()]);
    let both = webhook(&secrets, PATIENT);
    let data = Some(Arc::from(r#"{"order": 7, "note": "a.b \u00e4"}"#));
    let html = Some("<b>Hello</b>".to_owned());
    for delivery in [to(&peer, "/ok"), Delivery { data, html, subject: None, ..to(&peer, "/ok") }] {
        let id = delivery.id;
        let answer = both.send(delivery).await;
        assert_eq!((answer.verdict, answer.status_code), (DeliveryResult::Delivered, Some(200)));
        assert_eq!(peer.line(), format!("ok /ok {id}"));
    }
    // a sender with only the new secret cannot satisfy a verifier with both
    let one = webhook(&secrets[..1], PATIENT);
    let delivery = to(&peer, "/ok");
    let id = delivery.id;
    assert!(matches!(one.send(delivery).await.verdict, DeliveryResult::Permanent { .. }));
    let line = peer.line();
    assert!(line.starts_with(&format!("bad /ok {id} secret 1")), "{line}");
}

#[tokio::test]
async fn an_endpoint_may_do_what_it_likes_and_it_concerns_it_alone() {
    let secret = Secret::generate().unwrap();
    let mut peer = Peer::python("webhook.py", &[secret.expose()]);
    let webhook = webhook(std::slice::from_ref(&secret), PATIENT);
    for (path, expected, code) in [
        ("/flaky", "deferred Some(1s)", Some(503)),
        ("/limited", "deferred Some(7s)", Some(429)),
        ("/gone", "gone", Some(410)),
        ("/redirect", "permanent", Some(307)),
        ("/garbage", "deferred None", None),
        ("/huge", "delivered", Some(200)),
    ] {
        let delivery = to(&peer, path);
        let AttemptReport { verdict, status_code, .. } = webhook.send(delivery.clone()).await;
        let came = match verdict {
            DeliveryResult::Delivered => "delivered".to_owned(),
            DeliveryResult::Gone { .. } => "gone".to_owned(),
            DeliveryResult::Permanent { .. } => "permanent".to_owned(),
            DeliveryResult::Deferred { retry_after, .. } => format!("deferred {retry_after:?}"),
            other => format!("{other:?}"),
        };
        assert_eq!((came.as_str(), status_code), (expected, code), "{path}");
        assert_eq!(peer.line(), format!("ok {path} {}", delivery.id));
        if path == "/flaky" {
            // the same message, signed again
            assert_eq!(webhook.send(delivery.clone()).await.verdict, DeliveryResult::Delivered);
            assert_eq!(peer.line(), format!("ok {path} {}", delivery.id));
        }
    }
    let hasty = self::webhook(&[secret], Duration::from_millis(200));
    let answer = hasty.send(to(&peer, "/slow")).await;
    assert!(matches!(answer.verdict, DeliveryResult::Deferred { retry_after: None, .. }), "{answer:?}");
}

#[tokio::test]
async fn two_thousand_messages_come_once_each_and_every_signature_verifies() {
    const MESSAGES: usize = 2000;
    let secret = Secret::generate().unwrap();
    let mut peer = Peer::python("webhook.py", &[secret.expose()]);
    let webhook = webhook(&[secret], PATIENT);
    let deliveries: Vec<_> = (0..MESSAGES).map(|_| to(&peer, "/ok")).collect();
    let expected: BTreeSet<_> = deliveries.iter().map(|delivery| format!("ok /ok {}", delivery.id)).collect();
    // read meanwhile: a full pipe would block the peer
    let lines = tokio::task::spawn_blocking(move || {
        let lines: BTreeSet<_> = (0..MESSAGES).map(|_| peer.line()).collect();
        // it continues until the last response has arrived
        (lines, peer)
    });
    let began = Instant::now();
    let sendings = stream::iter(deliveries).map(|delivery| webhook.send(delivery)).buffer_unordered(64);
    let missed = sendings.filter(|answer| std::future::ready(answer.verdict != DeliveryResult::Delivered));
    let missed: Vec<_> = missed.collect().await;
    println!("{:.0} webhooks/s", MESSAGES as f64 / began.elapsed().as_secs_f64());
    assert_eq!(missed, []);
    let (lines, _peer) = lines.await.unwrap();
    assert_eq!(lines, expected);
}
