use std::sync::LazyLock;

use figment::Figment;
use figment::providers::{Format, Toml};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::template::id_number;
use super::*;

const TWILIO: &str = include_str!("../../../config/examples/sms-twilio.toml");
const VONAGE: &str = include_str!("../../../config/examples/sms-vonage.toml");

/// Valid settings, which tests make invalid.
const GOOD: &str = r#"
    url = "http://127.0.0.1:1/send?to={{ phone }}"
    json = '{"text": {{ text }}}'
"#;

fn variable(name: &str) -> Option<String> {
    match name {
        "UNSET" => None,
        "EMPTY" => Some(String::new()),
        "LINES" => Some("planted\r\nX-Evil: 1".into()),
        "COLON" => Some("planted:colon".into()),
        _ => Some("planted-secret".into()),
    }
}

fn settings(toml: &str) -> HttpSettings {
    Figment::from(Toml::string(toml)).extract().unwrap()
}

fn new(toml: &str) -> Result<HttpSms> {
    HttpSms::new(&settings(toml), &variable, Clock::System)
}

fn delivery(text: &str) -> Delivery {
    Delivery::to("+79031234567", text)
}

#[test]
fn the_examples_are_right_and_their_secrets_stand_in_the_environment() {
    for example in [TWILIO, VONAGE] {
        let settings: HttpSettings = Figment::from(Toml::string(example)).extract_inner("sms.http").unwrap();
        HttpSms::new(&settings, &variable, Clock::System).unwrap();
        let unset = HttpSms::new(&settings, &|_| None, Clock::System).err().unwrap().to_string();
        assert!(unset.contains("the environment variable "), "{unset}");
    }
}

#[test]
fn each_wrong_setting_is_named_with_what_is_wrong_and_without_a_secret() {
    let with = |more: &str| format!("{GOOD}{more}");
    let url = |url: &str| format!("url = \"{url}\"\njson = '[{{{{ text }}}}, {{{{ phone }}}}]'");
    let json = |json: &str| format!("url = 'http://a/{{{{ phone }}}}'\njson = '{json}'");
    let cases = [
        (url("ftp://a/"), "sms.http.url", "http[s]://"),
        (url("a/send"), "sms.http.url", "http[s]://"),
        (url("http://u:p@a/"), "sms.http.url", "http[s]://"),
        (url("http://{{ phone }}.example.com/"), "sms.http.url", "a wrong host"),
        (url("http://${UNSET}/"), "sms.http.url", "the environment variable UNSET is not set"),
        (url("${SECRET}/send"), "sms.http.url", "http[s]://"),
        (url("${LINES}/send"), "sms.http.url", "http[s]://"),
        (url("http://a/#top"), "sms.http.url", "fragment"),
        (url("http://a/with space"), "sms.http.url", "path of a URL"),
        (url("http://a/{{ phon }}"), "sms.http.url", "`phon` is unknown; known names: id, id_number, phone"),
        (url("http://a/{{ phone"), "sms.http.url", "syntax error"),
        (url("http://a/${UNSET}"), "sms.http.url", "the environment variable UNSET is not set"),
        (url("http://a/${EMPTY}"), "sms.http.url", "the environment variable EMPTY is not set"),
        (url("http://a/${not a name}"), "sms.http.url", "must begin the name of an environment variable"),
        (url("http://a/${"), "sms.http.url", "must begin the name of an environment variable"),
        (json(r#"{"text": "{{ text }}"}"#), "sms.http.json", "brings its own quotes"),
        (json(r#"{"key": "${SECRET}", "text": {{ text }}}"#), "sms.http.json", "brings its own quotes"),
        (json("{{ text | nonsense }}"), "sms.http.json", "filter"),
        (json("{{ text.first }}"), "sms.http.json", "no value for `text.first`"),
        (json("{{ __variables.SECRET }}, {{ text }}"), "sms.http.json", "no value for `__variables.SECRET`"),
        (
            json("[{% for a in [1] * 999 %}1,{% endfor %} {{ text }}]"),
            "sms.http.json",
            "`[1]` is a list, not a number",
        ),
        (
            json(&format!(
                "{}{}{{{{ text }}}}",
                format!("{{% for a in [{}] %}}", "1,".repeat(100)).repeat(4),
                "{% endfor %}".repeat(4)
            )),
            "sms.http.json",
            "too much work",
        ),
        ("url = 'http://a/{{ text }}'".into(), "sms.http", "uses `phone` or `phone_e164`"),
        ("url = 'http://a/{{ phone }}'".into(), "sms.http", "uses `text`"),
        (with("form = { a = '1' }"), "sms.http.json", "not both"),
        (with("method = 'GET'"), "sms.http.method", "GET has no body"),
        (with("headers = { 'a b' = '1' }"), "sms.http.headers.a b", "not a header name"),
        (with("headers = { Host = '1' }"), "sms.http.headers.Host", "connection"),
        (with("headers = { content-length = '1' }"), "sms.http.headers.content-length", "connection"),
        (with("headers = { X = '${LINES}' }"), "sms.http.headers.X", "one line"),
        (with("headers = { X = '{{ nobody }}' }"), "sms.http.headers.X", "`nobody` is unknown"),
        (with("query = { X = '{{ nobody }}' }"), "sms.http.query.X", "`nobody` is unknown"),
        (
            with("bearer = 'x'\nheaders = { Authorization = '1' }"),
            "sms.http.headers.Authorization",
            "sms.http.bearer",
        ),
        (with("bearer = '${UNSET}'"), "sms.http.bearer", "UNSET"),
        (with("bearer = '${LINES}'"), "sms.http.bearer", "one line"),
        (with("bearer = 'x'\nbasic = { user = 'a', password = 'b' }"), "sms.http.bearer", "not both"),
        (with("basic = { user = '${COLON}', password = 'b' }"), "sms.http.basic", "a colon"),
        (with("code = 'status'"), "sms.http.code", "JSON pointer"),
        (with("id = '/a~2b'"), "sms.http.id", "JSON pointer"),
        (with("success = { statuses = [100] }"), "sms.http.success.statuses", "200 to 599"),
        (
            with("gone = { statuses = [404] }\npermanent = { statuses = [404] }"),
            "sms.http.gone.statuses",
            "404 is listed twice",
        ),
        (
            with("code = '/c'\ntransient = { codes = [1] }\npermanent = { codes = ['1'] }"),
            "sms.http.permanent.codes",
            "1 is listed twice",
        ),
        (with("gone = { codes = [1] }"), "sms.http.gone.codes", "needs sms.http.code"),
    ];
    assert!(new(GOOD).is_ok());
    for (toml, field, why) in cases {
        let error = new(&toml).err();
        let Some(Error::Invalid(fields)) = &error else { unreachable!("{toml}: {error:?}") };
        assert_eq!((fields.len(), fields[0].field.as_str()), (1, field), "{toml}: {fields:?}");
        assert!(fields[0].reason.contains(why), "{toml}: {fields:?}");
        assert!(!format!("{fields:?}").contains("planted"), "{fields:?}");
    }
}

#[test]
fn all_that_is_wrong_is_named_at_once_and_what_does_not_exist_is_refused() {
    let error = new("url = 'http://a/{{ x }}'\njson = '{{ y }}'\nid = 'z'").err().unwrap().to_string();
    assert!(["sms.http.url", "sms.http.json", "sms.http.id"].iter().all(|f| error.contains(f)), "{error}");
    for toml in ["url = 'http://a'\nurls = 'x'", "url = 'http://a'\nmethod = 'DELETE'", "json = ''"] {
        assert!(Figment::from(Toml::string(toml)).extract::<HttpSettings>().is_err(), "{toml}");
    }
    let shown = format!("{:?}", settings(&GOOD.replace("/send", "/planted")));
    assert!(!shown.contains("planted"), "{shown}");
}

#[test]
fn the_place_may_stand_in_the_environment() {
    for (url, path) in [
        ("https://${HOST}/v1/{{ phone }}", "/v1/79031234567"),
        ("${BASE}/{{ phone }}?a=${X}", "/api/79031234567?a=%2F"),
    ] {
        let variable = |name: &str| match name {
            "HOST" => Some("sms.example.com:8443".into()),
            "BASE" => Some("https://sms.example.com:8443/api".into()),
            _ => Some("/".into()),
        };
        let settings = settings(&format!("url = '{url}'\njson = '[{{{{ text }}}}]'"));
        let sms = HttpSms::new(&settings, &variable, Clock::System).unwrap();
        let (target, headers, _) = request(&sms, delivery("x")).unwrap();
        assert_eq!(
            (target.as_str(), &headers["host"]),
            (path, &HeaderValue::from_static("sms.example.com:8443"))
        );
    }
}

#[test]
fn a_messages_number_is_that_of_its_id_at_each_attempt() {
    let id = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
    // computed as the SHA-256 of those sixteen bytes by other means
    assert_eq!(id_number(id), 0x5b49_ad0f_1037_441f);
    let many: std::collections::BTreeSet<u64> = (0..1000).map(|_| id_number(Uuid::now_v7())).collect();
    assert!(many.len() == 1000 && many.iter().all(|number| *number <= i64::MAX as u64));
}

/// The target, the headers and the body of a request.
fn request(sms: &HttpSms, delivery: Delivery) -> Result<(String, HeaderMap, String), String> {
    sms.request(delivery)
}

#[test]
fn a_header_cannot_be_broken_out_of() {
    let sms = new(&format!("{GOOD}headers = {{ X-Text = '{{{{ text }}}}' }}")).unwrap();
    assert_eq!(request(&sms, delivery("one line")).unwrap().1["x-text"], "one line");
    for text in ["planted\r\nX-Evil: 1", "planted\nX", "planted\0"] {
        let refused = request(&sms, delivery(text)).unwrap_err();
        assert_eq!(refused, "the header x-text cannot contain the values of this message");
    }
}

#[test]
fn a_body_that_some_message_breaks_is_refused_for_that_message() {
    // the samples do not cover everything
    let sms =
        new(&GOOD.replace("{{ text }}", "{% if text == \"x\" %}{% else %}{{ text }}{% endif %}")).unwrap();
    assert!(request(&sms, delivery("y")).is_ok());
    assert!(request(&sms, delivery("x")).unwrap_err().contains("does not render to JSON"));
    let address = Delivery { recipient: "planted@example.com".into(), ..delivery("x") };
    assert_eq!(request(&sms, address).unwrap_err(), "the recipient is not a phone number");
}

/// Created once, since each instance loads the system's certificates.
static JSON: LazyLock<HttpSms> = LazyLock::new(|| {
    new("url = 'http://a/{{ text }}?p={{ phone }}'\njson = '{\"t\": {{ text }}, \"s\": {{ subject }}}'")
        .unwrap()
});
static FORM: LazyLock<HttpSms> = LazyLock::new(|| {
    new("url = 'http://a'\nform = { t = '{{ text }}', p = '{{ phone }}', 'a&b' = '{{ subject }}' }").unwrap()
});

proptest! {
    #[test]
    fn any_text_arrives_as_it_is(
        text in "[\\PC\r\n\t\"\\\\{}%$&=+]{0,80}",
        subject in "[\\PC\"\\\\\n]{0,20}",
    ) {
        let sent = Delivery { subject: Some(subject.clone()), ..delivery(&text) };
        let (path, _, body) = request(&JSON, sent.clone()).unwrap();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        prop_assert_eq!(body, serde_json::json!({"t": text, "s": subject}));
        let url = url::Url::parse(&format!("http://a{path}")).unwrap();
        prop_assert_eq!(url.query(), Some("p=79031234567"));
        prop_assert_eq!(path.matches('/').count(), 1);

        let (_, _, body) = request(&FORM, sent).unwrap();
        let fields = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect::<Vec<_>>();
        let expected = [("a&b", subject.as_str()), ("p", "79031234567"), ("t", &text)];
        prop_assert_eq!(fields, expected.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec());
    }
}

const RULES: &str = r#"
    code = "/code"
    id = "/id"
    success = { statuses = [200, 409], codes = [0, "ok"] }
    transient = { statuses = [401], codes = ["busy"] }
    throttled = { statuses = [420], codes = ["slow"] }
    permanent = { statuses = [501], codes = ["no"] }
    gone = { statuses = [410], codes = ["dead"] }
"#;

#[test]
fn an_answer_means_what_the_rules_say_of_its_code_then_of_its_status() {
    let by_rules = new(&format!("{GOOD}{RULES}")).unwrap().rules;
    let by_status = new(GOOD).unwrap().rules;
    let only_id = new(&format!("{GOOD}id = '/id'")).unwrap().rules;
    let cases = [
        (&by_rules, 200, r#"{"code": 0}"#, Meaning::Success),
        (&by_rules, 200, r#"{"code": "0"}"#, Meaning::Success),
        (&by_rules, 409, r#"{"code": "ok"}"#, Meaning::Success),
        (&by_rules, 201, r#"{"code": 0}"#, Meaning::Permanent),
        (&by_rules, 500, r#"{"code": 0}"#, Meaning::Transient),
        (&by_rules, 200, r#"{"code": "busy"}"#, Meaning::Transient),
        (&by_rules, 410, r#"{"code": "busy"}"#, Meaning::Transient),
        (&by_rules, 200, r#"{"code": "slow"}"#, Meaning::Throttled),
        (&by_rules, 200, r#"{"code": "no"}"#, Meaning::Permanent),
        (&by_rules, 500, r#"{"code": "dead"}"#, Meaning::Gone),
        (&by_rules, 200, r#"{"code": 17}"#, Meaning::Permanent),
        (&by_rules, 200, r#"{"code": null}"#, Meaning::Unreadable),
        (&by_rules, 200, r#"{}"#, Meaning::Unreadable),
        (&by_rules, 200, "<html>", Meaning::Unreadable),
        (&by_rules, 410, "<html>", Meaning::Gone),
        (&by_rules, 420, "", Meaning::Throttled),
        (&by_rules, 401, "", Meaning::Transient),
        (&by_rules, 501, "", Meaning::Permanent),
        (&by_rules, 400, r#"{"code": "?"}"#, Meaning::Permanent),
        (&by_status, 204, "", Meaning::Success),
        (&by_status, 200, "<html>", Meaning::Success),
        (&by_status, 302, "", Meaning::Permanent),
        (&by_status, 408, "", Meaning::Transient),
        (&by_status, 425, "", Meaning::Transient),
        (&by_status, 429, "", Meaning::Transient),
        (&by_status, 599, "", Meaning::Transient),
        (&by_status, 404, "", Meaning::Permanent),
        (&only_id, 200, "{}", Meaning::Success),
        (&only_id, 200, "<html>", Meaning::Unreadable),
    ];
    for (rules, status, body, meaning) in cases {
        let found = rules.read(StatusCode::from_u16(status).unwrap(), Some(body.as_bytes()));
        assert_eq!(found.meaning, meaning, "{status} {body}");
    }
    let found = by_rules.read(StatusCode::OK, Some(br#"{"code": 0, "id": 17}"#));
    assert_eq!((found.code.as_deref(), found.id.as_deref()), (Some("0"), Some("17")));
    for shown in ["79031234567", "to +79031234567", "planted@example.com", "ы", ""] {
        let body = serde_json::json!({"code": shown}).to_string();
        assert_eq!(by_rules.read(StatusCode::OK, Some(body.as_bytes())).code, None, "{shown}");
    }
}

/// Returns the outcome of a response that is given byte by byte.
async fn answered(toml: &str, answer: &str) -> AttemptReport {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sms = new(&toml.replace("127.0.0.1:1", &listener.local_addr().unwrap().to_string())).unwrap();
    let serve = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\"}") {
            assert!(socket.read_buf(&mut bytes).await.unwrap() > 0);
        }
        socket.write_all(answer.as_bytes()).await.unwrap();
    };
    tokio::join!(sms.send(delivery("Hi")), serve).0
}

fn http(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn what_is_no_answer_is_tried_again_and_retry_after_is_honoured() {
    let toml = format!("{GOOD}{RULES}");
    let seven = Some(Duration::from_secs(7));
    let long = format!("{{\"code\": 0, \"x\": \"{}\"}}", "x".repeat(LONGEST_ANSWER));
    for said in [
        http("200 OK", "garbage"),
        http("200 OK", &long),
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into(),
    ] {
        let answer = answered(&toml, &said).await;
        assert_eq!(answer.status_code, Some(200));
        assert!(
            matches!(&answer.verdict, DeliveryResult::Transient { error, retry_after: None } if error.contains("does not match sms.http")),
            "{answer:?}"
        );
    }
    for (said, verdict) in [
        (
            http("429 Too Many\r\nretry-after: 7", ""),
            DeliveryResult::Throttled { retry_after: Duration::from_secs(7) },
        ),
        (
            http("429 Too Many", ""),
            DeliveryResult::Transient {
                error: "the provider returned 429 Too Many Requests".into(),
                retry_after: None,
            },
        ),
        (
            http("503 Away\r\nretry-after: 7", r#"{"code": "x-1"}"#),
            DeliveryResult::Transient {
                error: "the provider returned 503 Service Unavailable with code x-1".into(),
                retry_after: seven,
            },
        ),
        (http("420 Calm", ""), DeliveryResult::Throttled { retry_after: PATIENCE }),
        (
            http("200 OK\r\nretry-after: 7", r#"{"code": "slow"}"#),
            DeliveryResult::Throttled { retry_after: Duration::from_secs(7) },
        ),
        (http("410 Gone", ""), DeliveryResult::Gone { error: "the provider returned 410 Gone".into() }),
    ] {
        assert_eq!(answered(&toml, &said).await.verdict, verdict, "{said}");
    }
    let away = new(GOOD).unwrap().send(delivery("Hi")).await;
    assert_eq!(away, AttemptReport::none("the provider could not be reached"));
}
