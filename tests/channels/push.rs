//! Push notifications through a stand-in for Google that checks the signature of each assertion, the access token and
//! the form of each message.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use fanfare::channels::push::{Fcm, FcmSettings, ServiceAccount};
use fanfare::channels::{AttemptReport, Channel, Delivery, DeliveryResult};
use fanfare::clock::Clock;
use fanfare::db::types::Timestamp;
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::channels::peer::Peer;

struct Google {
    peer: Peer,
    settings: FcmSettings,
}

impl Google {
    fn start(args: &[&str]) -> Self {
        let peer = Peer::python("fcm.py", args);
        let ready: Value = serde_json::from_str(&peer.ready).unwrap();
        let service_account = ServiceAccount::Json(ready["service_account"].to_string().into());
        let base_url = ready["base"].as_str().unwrap().to_owned();
        Self { peer, settings: FcmSettings { service_account, base_url } }
    }

    fn fcm(&self, clock: Clock) -> Fcm {
        Fcm::new("push.service_account", &self.settings, clock).unwrap()
    }

    fn event(&mut self) -> Value {
        serde_json::from_str(&self.peer.line()).unwrap()
    }

    /// Returns the next event, which is a request for a token.
    fn token(&mut self) -> u64 {
        let event = self.event();
        event["token"].as_u64().unwrap_or_else(|| panic!("{event}"))
    }

    /// Returns the bearer token of the next event, which is a message.
    fn sent(&mut self) -> String {
        let event = self.event();
        event["bearer"].as_str().unwrap_or_else(|| panic!("{event}")).to_owned()
    }
}

fn delivery(device: &str) -> Delivery {
    Delivery { subject: Some("Title".into()), ..Delivery::to(device, "Привет, \"мир\"") }
}

/// Returns a fixed clock, and a function that sets it to a number of seconds after the start.
fn clock() -> (Clock, impl Fn(i64)) {
    let began = Clock::System.now();
    let clock = Clock::manual(began);
    let moved = clock.clone();
    (clock, move |seconds| moved.set(Timestamp::from_micros(began.micros() + seconds * 1_000_000)))
}

#[tokio::test]
async fn a_message_is_sent_as_google_documents_it_and_its_name_is_kept() {
    let mut google = Google::start(&[]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    if let ServiceAccount::Json(json) = &google.settings.service_account {
        file.write_all(secrecy::ExposeSecret::expose_secret(json).as_bytes()).unwrap();
    }
    google.settings.service_account = ServiceAccount::File(file.path().into());
    let fcm = google.fcm(Clock::System);

    let data = json!({
        "order": 7, "title": "x", "tags": ["a", null], "apns": "no object", "is_paid": true,
        "android": {"priority": "HIGH", "ttl": "86400s"}, "webpush": {"headers": {"Urgency": "high"}},
    });
    let sent = Delivery { data: Some(data.to_string().into()), ..delivery("device-1") };
    let answer = fcm.send(sent.clone()).await;
    assert_eq!((&answer.verdict, answer.status_code), (&DeliveryResult::Delivered, Some(200)));
    let name = "projects/demo-project/messages/0:1500415314455276%31bd1c9631bd1c96";
    assert_eq!(answer.provider_id.as_deref(), Some(name));
    assert_eq!(google.token(), 1);
    let id = sent.id.to_string();
    let expected = json!({"message": {
        "token": "device-1",
        "notification": {"title": "Title", "body": "Привет, \"мир\""},
        "data": {
            "order": "7", "title": "x", "tags": "[\"a\",null]", "apns": "no object", "is_paid": "true",
        },
        "android": {"priority": "HIGH", "ttl": "86400s", "notification": {"tag": id}},
        "apns": {"headers": {"apns-collapse-id": id}},
        "webpush": {"headers": {"Urgency": "high"}},
    }});
    assert_eq!(google.event(), json!({"sent": expected, "bearer": "ya29.token-1"}));

    let own =
        json!({"android": {"notification": {"tag": "t"}}, "apns": {"headers": {"apns-collapse-id": "c"}}});
    let sent = Delivery { subject: None, data: Some(own.to_string().into()), ..delivery("device-1") };
    assert_eq!(fcm.send(sent).await.verdict, DeliveryResult::Delivered);
    let mut expected = own;
    expected["token"] = "device-1".into();
    expected["notification"] = json!({"body": "Привет, \"мир\""});
    assert_eq!(google.event(), json!({"sent": {"message": expected}, "bearer": "ya29.token-1"}));
}

#[tokio::test]
async fn each_of_fcms_errors_is_understood() {
    let google = Google::start(&[]);
    let fcm = google.fcm(Clock::System);
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let transient = |error: &str, retry_after| DeliveryResult::Transient { error: error.into(), retry_after };
    let permanent = |error: &str| DeliveryResult::Permanent { error: error.into() };
    let gone = |error: &str| DeliveryResult::Gone { error: error.into() };
    let throttled = |seconds| DeliveryResult::Throttled { retry_after: Duration::from_secs(seconds) };
    let configuration =
        |error: &str| transient(&format!("{error}: check the project and its credentials"), None);
    for (device, status, verdict) in [
        ("unregistered", 404, gone("FCM returned 404 Not Found (UNREGISTERED)")),
        ("malformed", 400, gone("FCM returned 400 Bad Request (INVALID_ARGUMENT)")),
        ("malformed-field", 400, gone("FCM returned 400 Bad Request (INVALID_ARGUMENT)")),
        ("invalid", 400, permanent("FCM returned 400 Bad Request (INVALID_ARGUMENT)")),
        ("mismatch", 403, permanent("FCM returned 403 Forbidden (SENDER_ID_MISMATCH)")),
        ("denied", 403, configuration("FCM returned 403 Forbidden (PERMISSION_DENIED)")),
        ("quota", 429, throttled(60)),
        ("quota-after", 429, throttled(7)),
        ("quota-device", 429, transient("FCM returned 429 Too Many Requests (QUOTA_EXCEEDED)", seconds(60))),
        ("unavailable", 503, transient("FCM returned 503 Service Unavailable (UNAVAILABLE)", seconds(8))),
        ("internal", 500, transient("FCM returned 500 Internal Server Error (INTERNAL)", None)),
        ("third-party", 401, configuration("FCM returned 401 Unauthorized (THIRD_PARTY_AUTH_ERROR)")),
        ("garbage", 200, transient("FCM's response (200 OK) cannot be read", None)),
    ] {
        let answer = fcm.send(delivery(device)).await;
        assert_eq!(answer, AttemptReport::of(verdict, Some(status)), "{device}");
    }
}

#[tokio::test]
async fn many_messages_at_once_fetch_one_token() {
    let mut google = Google::start(&[]);
    let fcm = google.fcm(Clock::System);
    let answers = join_all((0..50).map(|_| fcm.send(delivery("device")))).await;
    assert!(answers.iter().all(|answer| answer.verdict == DeliveryResult::Delivered), "{answers:?}");
    assert_eq!(google.token(), 1);
    for _ in 0..50 {
        assert_eq!(google.sent(), "ya29.token-1");
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_nobody_waits_for_that() {
    let mut google = Google::start(&["--expires-in", "100", "--renewal-after", "3"]);
    let (clock, set) = clock();
    let fcm = google.fcm(clock);
    for seconds in [0, 79] {
        set(seconds);
        assert_eq!(fcm.send(delivery("device")).await.verdict, DeliveryResult::Delivered);
    }
    assert_eq!(
        (google.token(), google.sent(), google.sent()),
        (1, "ya29.token-1".into(), "ya29.token-1".into())
    );
    // a fifth of its lifetime is left: one message renews it, and Google's response to that waits for another message
    set(80);
    let answers = join_all((0..4).map(|_| fcm.send(delivery("device")))).await;
    assert!(answers.iter().all(|answer| answer.verdict == DeliveryResult::Delivered), "{answers:?}");
    let events: Vec<Value> = (0..5).map(|_| google.event()).collect();
    let tokens: Vec<&Value> = events.iter().filter_map(|event| event.get("token")).collect();
    assert_eq!(tokens, [2]);
    let bearers: BTreeSet<&str> = events.iter().filter_map(|event| event["bearer"].as_str()).collect();
    assert!(bearers.contains("ya29.token-1") && bearers.contains("ya29.token-2"), "{bearers:?}");
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_token_that_is_still_good() {
    let mut google = Google::start(&["--expires-in", "100", "--failing-token", "2"]);
    let (clock, set) = clock();
    let fcm = google.fcm(clock);
    for seconds in [0, 80, 89, 90, 91] {
        set(seconds);
        assert_eq!(fcm.send(delivery("device")).await.verdict, DeliveryResult::Delivered);
    }
    let told = |event: Value| event.get("bearer").unwrap_or(&event["token"]).clone();
    let events: Vec<Value> = (0..8).map(|_| told(google.event())).collect();
    let (old, new) = ("ya29.token-1", "ya29.token-3");
    assert_eq!(Value::from(events), json!([1, old, 2, old, old, 3, new, new]));
}

#[tokio::test]
async fn a_refused_token_is_thrown_away_once() {
    let mut google = Google::start(&[]);
    let (clock, set) = clock();
    let fcm = google.fcm(clock);
    let send = async |device: &str| fcm.send(delivery(device)).await.status_code;
    assert_eq!(send("device").await, Some(200));
    assert_eq!((google.token(), google.sent()), (1, "ya29.token-1".into()));
    set(60);
    assert_eq!(send("revoke").await, Some(401));
    assert_eq!(google.sent(), "ya29.token-1");
    assert_eq!(send("device").await, Some(200));
    assert_eq!((google.token(), google.sent()), (2, "ya29.token-2".into()));
    // a new token that is refused at once is kept: another one would be refused too
    assert_eq!([send("revoke").await, send("device").await], [Some(401), Some(401)]);
    assert_eq!([google.sent(), google.sent()], ["ya29.token-2", "ya29.token-2"]);
    set(120);
    assert_eq!([send("device").await, send("device").await], [Some(401), Some(200)]);
    assert_eq!(google.sent(), "ya29.token-2");
    assert_eq!((google.token(), google.sent()), (3, "ya29.token-3".into()));
}

#[tokio::test]
async fn a_failure_to_get_a_token_is_shared_and_no_fault_of_the_messages() {
    let mut google = Google::start(&["--failing-token", "1"]);
    let (clock, set) = clock();
    let fcm = google.fcm(clock);
    let why = "the token endpoint returned 400 Bad Request (invalid_grant): check the service account";
    let answers = join_all((0..20).map(|_| fcm.send(delivery("device")))).await;
    assert!(answers.iter().all(|answer| *answer == AttemptReport::none(why)), "{answers:?}");
    // no request is sent for two seconds
    set(1);
    assert_eq!(fcm.send(delivery("device")).await, AttemptReport::none(why));
    set(2);
    assert_eq!(fcm.send(delivery("device")).await.verdict, DeliveryResult::Delivered);
    assert_eq!([google.token(), google.token()], [1, 2]);
    assert_eq!(google.sent(), "ya29.token-2");
}

#[tokio::test]
async fn a_fetch_that_is_given_up_is_taken_over_by_the_next() {
    let mut google = Google::start(&[]);
    let fcm = google.fcm(Clock::System);
    let mut given_up = fcm.send(delivery("device"));
    // it requests a token, and is dropped before the response
    assert!((&mut given_up).now_or_never().is_none());
    drop(given_up);
    assert_eq!(fcm.send(delivery("device")).await.verdict, DeliveryResult::Delivered);
    assert!(google.token() > 0);
}

/// Responds to every request with this head, and closes: with a token if one is requested, else with an accepted
/// message.
async fn odd_google(listener: tokio::net::TcpListener, head: &'static str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    loop {
        let mut socket = listener.accept().await.unwrap().0;
        let mut bytes = Vec::new();
        let request = loop {
            assert!(socket.read_buf(&mut bytes).await.unwrap() > 0);
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
            if body.len() >= length.parse::<usize>().unwrap() {
                break head.to_owned();
            }
        };
        let body = match request.starts_with("POST /token") {
            true => json!({"access_token": "ya29.odd", "token_type": "Bearer", "expires_in": 3600}),
            false => json!({"name": "projects/demo-project/messages/1"}),
        };
        let body = body.to_string();
        let head = head.replace("LENGTH", &body.len().to_string());
        socket.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn tokens_and_messages_are_had_from_answers_with_odd_heads() {
    let google = Google::start(&[]);
    for head in [
        "X-A: b\r\n c\r\nContent-Length: LENGTH",
        "Content-Length : LENGTH",
        "no colon\r\nX-A: \u{1}\r\nContent-Length: LENGTH",
        "Content-Length: 5O",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let ServiceAccount::Json(json) = &google.settings.service_account else { unreachable!() };
        let mut account: Value = serde_json::from_str(secrecy::ExposeSecret::expose_secret(json)).unwrap();
        account["token_uri"] = format!("{base_url}/token").into();
        let service_account = ServiceAccount::Json(account.to_string().into());
        let settings = FcmSettings { service_account, base_url };
        let fcm = Fcm::new("push.service_account", &settings, Clock::System).unwrap();
        let server = tokio::spawn(odd_google(listener, head));
        let answer = fcm.send(delivery("device")).await;
        assert_eq!((answer.verdict, answer.status_code), (DeliveryResult::Delivered, Some(200)), "{head:?}");
        server.abort();
    }
}
