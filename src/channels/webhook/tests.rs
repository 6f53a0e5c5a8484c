use std::sync::Mutex;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::egress::guard::Settings;
use crate::error::{Error, Result};

fn delivery(url: &str) -> Delivery {
    Delivery::to(url, "Hi")
}

fn guard() -> Arc<Guard> {
    let allowed = "127.0.0.0/8".parse().unwrap();
    Arc::new(Guard::new(&Settings { allowed, ..Settings::default() }).unwrap())
}

/// A directory of one endpoint that records the results it is told.
#[derive(Default)]
struct Known {
    endpoint: EndpointSettings,
    is_away: bool,
    noted: Mutex<Vec<EndpointResult>>,
}

impl EndpointDirectory for Known {
    fn find<'a>(&'a self, _: &'a str) -> EndpointFuture<'a> {
        let found: Result<_> =
            if self.is_away { Err(Error::internal("away")) } else { Ok(self.endpoint.clone()) };
        Box::pin(std::future::ready(found))
    }

    fn note(&self, _: &str, came: EndpointResult) {
        self.noted.lock().unwrap().push(came);
    }
}

fn known(disabled: Option<Disabled>) -> Known {
    Known {
        endpoint: EndpointSettings { secrets: vec![Secret::generate().unwrap()], disabled },
        ..Known::default()
    }
}

/// Returns the outcome of a scripted response, and the results that the directory is told.
async fn answered(said: &str) -> (AttemptReport, Vec<EndpointResult>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = Arc::new(known(None));
    let webhook = Webhook::new(guard(), Arc::clone(&directory) as Arc<dyn EndpointDirectory>, Clock::System);
    let serve = async {
        let mut socket = listener.accept().await.unwrap().0;
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"}}") {
            assert!(socket.read_buf(&mut bytes).await.unwrap() > 0);
        }
        socket.write_all(said.as_bytes()).await.unwrap();
    };
    let url = format!("http://{}/hook?key=secret", listener.local_addr().unwrap());
    let (answer, ()) = tokio::join!(webhook.send(delivery(&url)), serve);
    let noted = std::mem::take(&mut *directory.noted.lock().unwrap());
    (answer, noted)
}

#[tokio::test]
async fn each_answer_says_what_it_means_to_this_endpoint_alone() {
    for (status, rest, code, expected, came) in [
        ("200 OK", "content-length: 0\r\n", 200, "delivered", EndpointResult::Taken),
        ("204 No Content", "", 204, "delivered", EndpointResult::Taken),
        ("202 Accepted", "content-length: 999\r\n\r\ncut", 202, "delivered", EndpointResult::Taken),
        ("302 Found", "location: http://127.0.0.1/\r\n", 302, "permanent", EndpointResult::Failed),
        ("400 Bad Request", "", 400, "permanent", EndpointResult::Failed),
        ("404 Not Found", "", 404, "permanent", EndpointResult::Failed),
        ("408 Request Timeout", "", 408, "deferred", EndpointResult::Failed),
        ("410 Gone", "", 410, "gone", EndpointResult::Gone),
        ("425 Too Early", "", 425, "deferred", EndpointResult::Failed),
        ("429 Too Many Requests", "retry-after: 7\r\n", 429, "deferred 7s", EndpointResult::Failed),
        ("500 Internal Server Error", "", 500, "deferred", EndpointResult::Failed),
        ("503 Service Unavailable", "retry-after: 120\r\n", 503, "deferred 120s", EndpointResult::Failed),
    ] {
        let (answer, noted) = answered(&format!("HTTP/1.1 {status}\r\n{rest}\r\n")).await;
        let verdict = match &answer.verdict {
            DeliveryResult::Delivered => "delivered".to_owned(),
            DeliveryResult::Gone { .. } => "gone".into(),
            DeliveryResult::Permanent { .. } => "permanent".into(),
            DeliveryResult::Deferred { retry_after: None, .. } => "deferred".into(),
            DeliveryResult::Deferred { retry_after: Some(wait), .. } => format!("deferred {wait:?}"),
            other => unreachable!("{other:?}"),
        };
        assert_eq!((verdict.as_str(), answer.status_code), (expected, Some(code)), "{status}");
        assert_eq!(noted, [came], "{status}");
    }
    for silence in ["", "no HTTP\r\n\r\n"] {
        let (answer, noted) = answered(silence).await;
        assert!(matches!(answer.verdict, DeliveryResult::Deferred { retry_after: None, .. }), "{answer:?}");
        assert_eq!(noted, [EndpointResult::Failed]);
    }
}

#[tokio::test]
async fn what_is_not_asked_at_all_says_nothing_of_the_endpoint() {
    let no_secret = Known::default();
    let away = Known { is_away: true, ..known(None) };
    let fine = "http://127.0.0.1:9/";
    for (url, directory, words) in [
        ("http://10.0.0.1/", known(None), "private network"),
        ("http://example.com:0/", known(None), "port"),
        ("anna@example.com", known(None), "the URL"),
        (fine, known(Some(Disabled::ByHand)), "is disabled"),
        (fine, known(Some(Disabled::Failing)), "failed for too long"),
        (fine, known(Some(Disabled::Gone)), "410 Gone"),
        (fine, no_secret, "WEBHOOK_SECRET"),
        (fine, away, "could not be read"),
    ] {
        let (is_away, directory) = (directory.is_away, Arc::new(directory));
        let webhook =
            Webhook::new(guard(), Arc::clone(&directory) as Arc<dyn EndpointDirectory>, Clock::System);
        let answer = webhook.send(delivery(url)).await;
        let (DeliveryResult::Permanent { error } | DeliveryResult::Deferred { error, .. }) = &answer.verdict
        else {
            unreachable!("{answer:?}")
        };
        assert!(error.contains(words), "{error}");
        assert_eq!(matches!(answer.verdict, DeliveryResult::Deferred { .. }), is_away);
        assert!(directory.noted.lock().unwrap().is_empty(), "{url}");
    }
    let no_json = Delivery { data: Some(Arc::from("{")), ..delivery(fine) };
    let webhook = Webhook::new(guard(), Arc::new(known(None)), Clock::System);
    assert!(matches!(webhook.send(no_json).await.verdict, DeliveryResult::Permanent { .. }));
}

#[tokio::test]
async fn an_attempt_that_is_given_up_has_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = Arc::new(known(None));
    let webhook = Webhook::new(guard(), Arc::clone(&directory) as Arc<dyn EndpointDirectory>, Clock::System);
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::select! {
        biased;
        answer = webhook.send(delivery(&url)) => unreachable!("{answer:?}"),
        came = listener.accept() => drop(came.unwrap()),
    }
    assert_eq!(*directory.noted.lock().unwrap(), [EndpointResult::Failed]);
}

#[test]
fn the_body_and_its_time_are_the_same_at_every_attempt_and_the_signature_is_of_now() {
    let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_900_000));
    let secrets = [Secret::generate().unwrap(), Secret::generate().unwrap()];
    let webhook = Webhook::new(guard(), Arc::new(SameForAll(Vec::new())), clock.clone());
    let data = Some(Arc::from(r#"{"order": 7}"#));
    let delivery = Delivery {
        subject: Some("S".into()),
        html: Some("<b>Hi</b>".into()),
        data,
        ..delivery("https://a.b/")
    };
    let (headers, body) = webhook.request(&delivery, &secrets).unwrap();
    let id = delivery.id;
    let expected = format!(
        r#"{{"type":"message","timestamp":"{}","data":{{"id":"{id}","subject":"S","text":"Hi","html":"<b>Hi</b>","data":{{"order": 7}}}}}}"#,
        id.created_at()
    );
    assert_eq!(body, expected);
    let header = |headers: &HeaderMap, name| headers.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header(&headers, "webhook-timestamp"), "1700000000");
    assert_eq!(header(&headers, "webhook-id"), id.to_string());
    assert_eq!(header(&headers, "idempotency-key"), id.to_string());
    let both = secrets.each_ref().map(|secret| secret.sign(&id.to_string(), 1_700_000_000, &body)).join(" ");
    assert_eq!(header(&headers, "webhook-signature"), both);
    clock.set(Timestamp::from_micros(1_700_000_060_000_000));
    let (later, same) = webhook.request(&delivery, &secrets).unwrap();
    assert_eq!(same, body);
    assert_eq!(header(&later, "webhook-timestamp"), "1700000060");
    assert_ne!(header(&later, "webhook-signature"), both);
}

#[test]
fn a_signature_is_that_of_the_published_libraries() {
    // the test vector of the specification
    let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
    let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn a_secret_that_is_none_is_refused_and_none_is_shown() {
    let encoded = |length: usize| {
        use base64::Engine;
        format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(vec![7; length]))
    };
    for wrong in
        ["", "whsec_", "secret", &encoded(23), &encoded(65), &encoded(24)[6..], "whsec_a b c d", "whsec_ä"]
    {
        let words = wrong.parse::<Secret>().unwrap_err();
        assert!(words.contains("24 to 64 bytes"), "{words}");
    }
    for length in [24, 32, 64] {
        assert_eq!(encoded(length).parse::<Secret>().unwrap().expose(), encoded(length));
    }
    let unpadded = encoded(25).trim_end_matches('=').to_owned();
    assert_eq!(unpadded.parse::<Secret>().unwrap().expose(), encoded(25));
    let secret = Secret::generate().unwrap();
    assert_eq!(
        format!("{:?}", EndpointSettings { secrets: vec![secret.clone()], disabled: None }.secrets),
        "[Secret(..)]"
    );
    assert!(secret == secret.clone() && secret != Secret::generate().unwrap());
}

proptest! {
    #[test]
    fn a_secret_is_read_as_it_was_written(bytes in proptest::collection::vec(any::<u8>(), 24..=64)) {
        use base64::Engine;
        let text = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(&bytes));
        let secret: Secret = text.parse().unwrap();
        prop_assert_eq!(secret.expose(), text);
    }
}
