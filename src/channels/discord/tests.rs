use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::egress::guard;

fn discord(hosts: &[&str]) -> Discord {
    let allowed = "127.0.0.0/8".parse().unwrap();
    let guard = Guard::new(&guard::Settings { allowed, ..guard::Settings::default() }).unwrap();
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    Discord::new(DiscordSettings { hosts }, Arc::new(guard), Clock::System)
}

fn delivery(url: &str) -> Delivery {
    Delivery::to(url, "Hi")
}

const PATH: &str = "/api/webhooks/1/token";

/// Returns the outcome of a response that the test scripts, and the request.
async fn answered(hosts: &[&str], path: &str, said: &str) -> (AttemptReport, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let discord = discord(hosts);
    let serve = async {
        let mut socket = listener.accept().await.unwrap().0;
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"}") {
            assert!(socket.read_buf(&mut bytes).await.unwrap() > 0);
        }
        socket.write_all(said.as_bytes()).await.unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    tokio::join!(discord.send(delivery(&url)), serve)
}

fn of(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn short(answer: &AttemptReport) -> String {
    match &answer.verdict {
        DeliveryResult::Delivered => format!("delivered {:?}", answer.provider_id),
        DeliveryResult::Transient { retry_after, .. } => format!("transient {retry_after:?}"),
        DeliveryResult::Deferred { retry_after, .. } => format!("deferred {retry_after:?}"),
        DeliveryResult::Throttled { retry_after } => format!("throttled {retry_after:?}"),
        DeliveryResult::Permanent { error } => format!("permanent {error}"),
        DeliveryResult::Gone { .. } => "gone".into(),
        DeliveryResult::LocalFault => "local fault".into(),
    }
}

#[tokio::test]
async fn what_discord_answers_concerns_one_webhook_or_all_as_it_says() {
    let reset = "x-ratelimit-scope: user\r\nx-ratelimit-reset-after: 1.5\r\n";
    for (said, expected) in [
        (of("200 OK", "", r#"{"id": "123456789012345678"}"#), r#"delivered Some("123456789012345678")"#),
        (of("200 OK", "", "<html>"), "delivered None"),
        (of("204 No Content", "", ""), "delivered None"),
        (of("429 X", "", r#"{"retry_after": 0.25, "global": false}"#), "deferred Some(250ms)"),
        (of("429 X", "", r#"{"retry_after": 64.5, "global": true}"#), "throttled 64.5s"),
        (of("429 X", "x-ratelimit-global: true\r\nretry-after: 3\r\n", "{}"), "throttled 3s"),
        (of("429 X", "x-ratelimit-scope: global\r\nretry-after: 3\r\n", "{}"), "throttled 3s"),
        (of("429 X", "x-ratelimit-scope: shared\r\nretry-after: 3\r\n", "{}"), "deferred Some(3s)"),
        (of("429 X", reset, "busy"), "deferred Some(1.5s)"),
        (of("429 X", "retry-after: 9\r\n", "<html>banned"), "throttled 9s"),
        (of("429 X", "", r#"{"retry_after": -1, "global": true}"#), "deferred None"),
        (of("404 Not Found", "", r#"{"code": 10015}"#), "gone"),
        (of("401 Unauthorized", "", r#"{"code": 50027}"#), "gone"),
        (
            of("400 X", "", r#"{"code": 50035, "errors": {}}"#),
            "permanent Discord returned 400 Bad Request with code 50035",
        ),
        (of("403 X", "", ""), "permanent Discord returned 403 Forbidden"),
        (of("302 X", "location: /\r\n", ""), "permanent Discord returned 302 Found"),
        (of("502 X", "retry-after: 2\r\n", "<html>"), "transient Some(2s)"),
        ("garbage\r\n\r\n".into(), "transient None"),
    ] {
        let (answer, request) = answered(&["127.0.0.1"], PATH, &said).await;
        assert_eq!(short(&answer), expected, "{said}");
        assert!(request.starts_with("POST /api/webhooks/1/token?wait=true HTTP/1.1\r\n"), "{request}");
    }
}

#[tokio::test]
async fn another_server_gets_the_form_of_slack_and_speaks_for_itself_alone() {
    for (path, said, expected) in [
        ("/services/T/B/x", of("200 OK", "", "ok"), "delivered None"),
        (PATH, of("429 X", "", r#"{"retry_after": 1, "global": true}"#), "deferred None"),
        ("/hooks/x", of("429 X", "retry-after: 30\r\n", ""), "deferred Some(30s)"),
        ("/hooks/x", of("503 X", "", ""), "deferred None"),
        ("/hooks/x", of("404 X", "", "no_service"), "gone"),
        ("/hooks/x", of("410 X", "", "channel_is_archived"), "gone"),
        (
            "/hooks/x",
            of("400 X", "", "invalid_payload"),
            "permanent the recipient's server returned 400 Bad Request",
        ),
        ("/hooks/x", "garbage\r\n\r\n".into(), "deferred None"),
    ] {
        let (answer, request) = answered(&["discord.com"], path, &said).await;
        assert_eq!(short(&answer), expected, "{said}");
        assert!(request.ends_with(r#"{"text":"Hi"}"#), "{request}");
    }
}

#[test]
fn discord_is_known_by_its_host_and_path() {
    let discord = discord(&["discord.com", "discordapp.com"]);
    let is_discord = |url: &str| discord.is_discord(&Url::parse(url).unwrap());
    for url in [
        "https://discord.com/api/webhooks/1/t",
        "https://DISCORD.com./api/v10/webhooks/1/t?thread_id=5",
        "https://ptb.discord.com/api/webhooks/1/t",
        "https://discordapp.com/api/webhooks/1/t",
    ] {
        assert!(is_discord(url), "{url}");
    }
    for url in [
        "https://discord.com/api/webhooks/1/t/slack",
        "https://discord.com/",
        "https://notdiscord.com/api/webhooks/1/t",
        "https://discord.com.evil.example/api/webhooks/1/t",
        "https://hooks.slack.com/services/T/B/x",
    ] {
        assert!(!is_discord(url), "{url}");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_said_without_a_word_of_the_recipients() {
    let discord = discord(&["127.0.0.1"]);
    let url = format!("http://127.0.0.1:9{PATH}");
    let data = |text: &str| Delivery { data: Some(Arc::from(text)), ..delivery(&url) };
    for (delivery, words) in [
        (Delivery { text: "ä".repeat(2001), ..delivery(&url) }, "2001 characters"),
        (Delivery { subject: Some("S".into()), text: "a".repeat(1996), ..delivery(&url) }, "2002 characters"),
        (data("[]"), "not a JSON object"),
        (data(r#"{"content": "x"}"#), "embeds, username"),
        (data(&format!(r#"{{"embeds": [{}]}}"#, ["{}"; 11].join(","))), "more than 10 embeds"),
        (delivery("secret"), "not a webhook URL"),
        (delivery("https://user:secret@discord.com/api/webhooks/1/t"), "user or a password"),
        (delivery("http://10.0.0.1/hooks/secret"), "private network"),
    ] {
        let answer = discord.send(delivery).await;
        let error = short(&answer);
        assert!(
            error.starts_with("permanent") && error.contains(words) && !error.contains("secret"),
            "{error}"
        );
    }
}

#[test]
fn a_message_has_all_that_was_given_and_mentions_nobody_by_itself() {
    let mut message = delivery("https://discord.com/api/webhooks/1/t");
    message.subject = Some("News".into());
    let body = discord_body(&message).unwrap();
    let expected = json!({
        "content": "**News**\nHi", "nonce": nonce(message.id), "enforce_nonce": true, "allowed_mentions": {"parse": []},
    });
    assert_eq!(Value::Object(body), expected);
    message.data = Some(Arc::from(
        r#"{"embeds": [{"title": "T"}], "allowed_mentions": {"parse": ["users"]}, "flags": 4}"#,
    ));
    let body = discord_body(&message).unwrap();
    assert_eq!(body["embeds"], json!([{"title": "T"}]));
    assert_eq!((&body["allowed_mentions"], &body["flags"]), (&json!({"parse": ["users"]}), &json!(4)));
    assert!(slack_body(&message).unwrap_err().contains("attachments"));
    message.text = "<!channel> a & b".into();
    message.data = Some(Arc::from(r#"{"icon_emoji": ":bell:"}"#));
    let expected = json!({"text": "*News*\n&lt;!channel&gt; a &amp; b", "icon_emoji": ":bell:"});
    assert_eq!(Value::Object(slack_body(&message).unwrap()), expected);
}

proptest! {
    #[test]
    fn a_nonce_is_the_ids_bits(bits: u128) {
        let nonce = nonce(MessageId(uuid::Uuid::from_u128(bits)));
        prop_assert!(nonce.len() <= 22);
        let digit = |c: char| match c {
            '0'..='9' => c as u128 - '0' as u128,
            'A'..='Z' => c as u128 - 'A' as u128 + 10,
            _ => c as u128 - 'a' as u128 + 36,
        };
        prop_assert_eq!(nonce.chars().fold(0, |sum, c| sum * 62 + digit(c)), bits);
    }
}
