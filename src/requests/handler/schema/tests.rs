use serde_json::{Value, json};

use super::*;
use crate::error::Error;
use crate::http::json::parse_object;
use crate::requests::views::CallView;

fn read(body: &Value) -> crate::error::Result<NewRequest> {
    parse_object::<RequestBody>(body.to_string().as_bytes())?.into_wanted()
}

fn call(request: Value) -> RequestSpec {
    read(&json!({"request": request})).expect("a request").asked.spec
}

#[test]
fn what_is_not_said_is_as_users_expect() {
    let plain = call(json!({"url": "https://example.com"}));
    assert_eq!((plain.verb.as_str(), plain.timeout_ms, plain.body, plain.again), ("GET", 30_000, None, None));
    let with_body = call(json!({"url": "https://example.com", "body": {"a": 1}}));
    assert_eq!((with_body.verb.as_str(), with_body.is_json), ("POST", true));
    let text = call(json!({"url": "https://example.com", "body": "a \"text\"\n"}));
    assert_eq!((text.body.as_deref(), text.is_json), (Some("a \"text\"\n"), false));
    for (body, is_json) in [(json!(1), true), (json!([]), true), (json!(false), true), (json!(""), false)] {
        let spec = call(json!({"url": "https://example.com", "body": body}));
        assert_eq!((spec.is_json, spec.verb.as_str()), (is_json, "POST"), "{body}");
    }
}

#[test]
fn delays_are_seconds_or_texts_and_nothing_is_not_everything() {
    let retry = |retry: Value| read(&json!({"request": {"url": "https://example.com"}, "retry": retry}));
    let wanted = retry(json!({"on": [], "delays": [0.5, 1, "2s", "1min 30s"]})).expect("a schedule");
    assert_eq!(wanted.asked.delays, Some(vec![500, 1000, 2000, 90_000]));
    assert!(!wanted.asked.spec.tries_again(crate::channels::AttemptFailure::Status(500)), "`on` is empty");
    assert_eq!(retry(json!({"delays": []})).expect("none").asked.delays, Some(vec![]));
    for wrong in [json!([0]), json!([-1]), json!([86_401]), json!(["x"]), json!([1e300]), json!(vec![1; 21])]
    {
        assert!(matches!(retry(json!({"delays": wrong})), Err(Error::Invalid(_))), "{wrong}");
    }
}

#[test]
fn what_is_stored_is_read_back_and_secrets_are_not_shown() {
    let header = json!({
        "Authorization": "Bearer planted", "x-api-key": "planted", "cookie": "planted", "X-Auth": "planted",
        "idempotency-key": "mine", "x-source": "fanfare"
    });
    let mut spec =
        call(json!({"url": "https://example.com", "body": "x", "credential": "one", "header": header}));
    spec.again = Some(vec![RetryOn::Class(5), RetryOn::Status(429), RetryOn::Timeout, RetryOn::Connection]);
    let text = crate::requests::model::to_json(&spec).expect("JSON");
    assert_eq!(crate::requests::model::stored::<RequestSpec>(&text).expect("a request"), spec);
    let shown = serde_json::to_value(CallView::from(&spec)).expect("JSON");
    assert!(!shown.to_string().contains("planted"), "{shown}");
    assert_eq!(
        (&shown["header"]["idempotency-key"], &shown["header"]["x-source"]),
        (&json!("mine"), &json!("fanfare"))
    );
    assert_eq!((&shown["body"], &shown["timeout"]), (&json!("x"), &json!(30.0)));
}
