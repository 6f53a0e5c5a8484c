//! SMS through providers' own HTTP APIs, as the example configurations describe them, against stand-ins that check each
//! request by the providers' documentation.

use std::time::Duration;

use fanfare::channels::sms_http::{HttpSettings, HttpSms};
use fanfare::channels::{AttemptReport, Channel, Delivery, DeliveryResult};
use fanfare::clock::Clock;
use figment::Figment;
use figment::providers::{Format, Toml};
use serde_json::{Value, json};

use crate::channels::peer::Peer;

const TWILIO: &str = include_str!("../../config/examples/sms-twilio.toml");
const VONAGE: &str = include_str!("../../config/examples/sms-vonage.toml");
const TWILIO_SID: &str = "AC0123456789abcdef0123456789abcdef";
/// A text with all characters that are special in a form, a query or JSON.
const NASTY: &str = "Тест \"x\" & a=b + 100% / ? # {{ id }} \\ \r\n'😀'";

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "TWILIO_ACCOUNT_SID" => TWILIO_SID,
        "TWILIO_AUTH_TOKEN" => "token&with=signs+",
        "TWILIO_FROM" => "+15005550006",
        "VONAGE_API_KEY" => "abcd1234",
        "VONAGE_API_SECRET" => "s3cr&t=+ %",
        "VONAGE_FROM" => "Acme & Co",
        "TOKEN" => "with \"quotes\"",
        _ => return None,
    };
    Some(value.into())
}

fn sms(toml: &str, variable: &dyn Fn(&str) -> Option<String>) -> HttpSms {
    let settings: HttpSettings = Figment::from(Toml::string(toml)).extract_inner("sms.http").unwrap();
    HttpSms::new(&settings, variable, Clock::System).unwrap()
}

fn delivery(recipient: &str, text: &str) -> Delivery {
    Delivery::to(recipient, text)
}

fn event(peer: &mut Peer) -> Value {
    serde_json::from_str(&peer.line()).unwrap()
}

/// Returns the verdict in a word, the status and the error.
fn told(answer: &AttemptReport) -> (&'static str, Option<u16>, &str) {
    let (word, error) = match &answer.verdict {
        DeliveryResult::Delivered => ("delivered", ""),
        DeliveryResult::Transient { error, .. } => ("transient", error.as_str()),
        DeliveryResult::Deferred { error, .. } => ("deferred", error.as_str()),
        DeliveryResult::Throttled { .. } => ("throttled", ""),
        DeliveryResult::LocalFault => ("local fault", ""),
        DeliveryResult::Permanent { error } => ("permanent", error.as_str()),
        DeliveryResult::Gone { error } => ("gone", error.as_str()),
    };
    (word, answer.status_code, error)
}

#[tokio::test]
async fn twilio_takes_what_its_example_sends_and_each_of_its_answers_is_understood() {
    let mut peer = Peer::python("sms_apis.py", &[]);
    let toml = TWILIO.replace("https://api.twilio.com", &peer.ready);
    let sms = sms(&toml, &variable);
    let sent = delivery("+15005550010", NASTY);
    let answer = sms.send(sent.clone()).await;
    assert_eq!(told(&answer), ("delivered", Some(201), ""));
    assert_eq!(answer.provider_id, Some(format!("SM{}", "0".repeat(32))));
    let expected = json!({
        "To": "+15005550010", "From": "+15005550006", "Body": NASTY, "idempotency_key": sent.id.to_string(),
    });
    assert_eq!(event(&mut peer), expected);

    for (to, word, status, code) in [
        ("+15005550001", "gone", 400, "21211"),
        ("+15005550002", "permanent", 400, "21612"),
        ("+15005550003", "permanent", 400, "21408"),
        ("+15005550004", "gone", 400, "21610"),
        ("+15005550009", "gone", 400, "21614"),
        ("+15005550091", "transient", 503, "20503"),
        ("+15005550099", "transient", 201, "does not match sms.http"),
    ] {
        let answer = sms.send(delivery(to, "Hi")).await;
        let (told_word, told_status, error) = told(&answer);
        assert_eq!((told_word, told_status), (word, Some(status)), "{to}");
        assert!(error.contains(code) && !error.contains("1500555"), "{to}: {error}");
        assert_eq!(event(&mut peer)["To"], to);
    }
    let answer = sms.send(delivery("+15005550090", "Hi")).await;
    assert_eq!(answer.verdict, DeliveryResult::Throttled { retry_after: Duration::from_secs(7) });
}

#[tokio::test]
async fn wrong_credentials_at_twilio_fail_nothing_for_good() {
    let peer = Peer::python("sms_apis.py", &[]);
    let toml = TWILIO.replace("https://api.twilio.com", &peer.ready);
    let wrong = |name: &str| if name.ends_with("TOKEN") { Some("wrong".into()) } else { variable(name) };
    let answer = sms(&toml, &wrong).send(delivery("+15005550010", "Hi")).await;
    let (word, status, error) = told(&answer);
    assert_eq!((word, status), ("transient", Some(401)));
    assert!(error.contains("20003"), "{error}");
}

#[tokio::test]
async fn vonage_takes_what_its_example_sends_and_each_of_its_answers_is_understood() {
    let mut peer = Peer::python("sms_apis.py", &[]);
    let toml = VONAGE.replace("https://rest.nexmo.com", &peer.ready);
    let sms = sms(&toml, &variable);
    for (text, kind) in [(NASTY, "unicode"), ("Price: 5 € [today] & tomorrow", "text")] {
        // clients' numbers come with and without a plus
        for recipient in ["+15005550010", "15005550010"] {
            let sent = delivery(recipient, text);
            let answer = sms.send(sent.clone()).await;
            assert_eq!(told(&answer), ("delivered", Some(200), ""), "{:?}", event(&mut peer));
            assert_eq!(answer.provider_id.as_deref(), Some("0A0000000123ABCD1"));
            let id = sent.id.to_string();
            let expected = json!({
                "api_key": "abcd1234", "from": "Acme & Co", "to": "15005550010", "text": text, "type": kind,
                "client-ref": id, "idempotency_key": id,
            });
            assert_eq!(event(&mut peer), expected);
        }
    }
    for (to, word) in [("15005550003", "permanent"), ("15005550005", "transient"), ("15005550007", "gone")] {
        let answer = sms.send(delivery(to, "Hi")).await;
        assert_eq!((told(&answer).0, answer.status_code), (word, Some(200)), "{to}");
    }
    let answer = sms.send(delivery("15005550001", "Hi")).await;
    assert_eq!(answer.verdict, DeliveryResult::Throttled { retry_after: Duration::from_secs(1) });
}

#[tokio::test]
async fn values_reach_the_provider_as_they_are_in_json_in_a_path_in_a_query_and_in_headers() {
    let mut peer = Peer::python("sms_apis.py", &[]);
    let put = r#"
        [sms.http]
        method = "PUT"
        url = "BASE/plain/{{ phone_e164 }}"
        headers = { X-Token = "${TOKEN}", X-Tag = "tag-{{ id }}", Idempotency-Key = "mine" }
        json = '''{"phone": {{ phone | int }}, "to": [{{ phone_e164 }}], "text": {{ "Dear, " ~ text }},
            "number": {{ id_number }}, {% if subject %}"subject": {{ subject }},{% endif %} "key": ${TOKEN},
            "unicode": {{ unicode }}}'''
        id = "/number"
        code = "/accepted"
        success = { codes = [true] }
    "#;
    let sms_put = sms(&put.replace("BASE", &peer.ready), &variable);
    for subject in [None, Some(NASTY.to_owned())] {
        let sent = Delivery { subject: subject.clone(), ..delivery("+79031234567", NASTY) };
        let answer = sms_put.send(sent.clone()).await;
        assert_eq!((told(&answer).0, answer.provider_id.as_deref()), ("delivered", Some("17")));
        let mut event = event(&mut peer);
        let number: u64 = event["body"]["number"].as_str().unwrap().parse().unwrap();
        assert!(number > 0 && number <= i64::MAX as u64);
        event["body"]["number"].take();
        let mut body = json!({
            "phone": 79_031_234_567_u64, "to": ["+79031234567"], "text": format!("Dear, {NASTY}"), "number": null,
            "key": "with \"quotes\"", "unicode": true,
        });
        if let Some(subject) = subject {
            body["subject"] = subject.into();
        }
        let expected = json!({
            "phone": "+79031234567", "token": "with \"quotes\"", "tag": format!("tag-{}", sent.id), "body": body,
            "idempotency_key": "mine",
        });
        assert_eq!(event, expected);
    }

    let get = r#"
        [sms.http]
        method = "GET"
        url = "BASE/plain/{{ text }}?first={{ text }}"
        query = { phone = "{{ phone }}", key = "${TOKEN}" }
    "#;
    let answer =
        sms(&get.replace("BASE", &peer.ready), &variable).send(delivery("+79031234567", NASTY)).await;
    assert_eq!(told(&answer), ("delivered", Some(200), ""));
    let event = event(&mut peer);
    assert_eq!(event["phone"], NASTY);
    let query = json!({"first": [NASTY], "phone": ["79031234567"], "key": ["with \"quotes\""]});
    assert_eq!(event["query"], query);
}
