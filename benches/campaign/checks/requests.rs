//! The limit is the limit of the same work: its requests equal the service's, byte by byte except for the order of
//! headers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use fanfare::channels::sms::Sms;
use fanfare::channels::{Channel, Delivery, DeliveryResult};
use fanfare::clock::Clock;
use fanfare::db::types::MessageId;
use fanfare::egress::client;
use fanfare::kinds::ChannelKind;
use fanfare::sandbox::{Sandbox, SandboxArgs};
use fanfare::templates::{Form, Template};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::limit;

/// Returns the text as the service renders it.
fn text(name: &str, city: &str) -> String {
    let template = Template::parse(limit::TEXT, Form::of(ChannelKind::Sms)).unwrap();
    template.render(serde_json::json!({"name": name, "city": city}).as_object().unwrap()).unwrap()
}

/// Accepts one request, responds as a provider does, and returns all of its bytes.
async fn take_one(listener: &TcpListener) -> String {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"}") {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "{}", String::from_utf8_lossy(&bytes));
    }
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\n{\"code\":0}";
    socket.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Returns the lines of a request, with sorted headers.
fn in_order(request: &str) -> Vec<&str> {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    lines.sort_unstable();
    lines.push(body);
    lines
}

#[tokio::test]
async fn the_limit_sends_the_same_bytes_as_the_service() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let id = MessageId::new();
    let (phone, name, city) = (79_031_234_567, "Анна", "Москва");

    let sms = Sms::new(&base, None, Clock::System).unwrap();
    let delivery = Delivery { id, ..Delivery::to(phone.to_string(), text(name, city)) };
    let (answer, by_service) = tokio::join!(sms.send(delivery), take_one(&listener));
    assert_eq!(answer.verdict, DeliveryResult::Delivered);

    let request = limit::request(&client().unwrap(), &base, &id.to_string(), (phone, name, city));
    let (answer, by_limit) = tokio::join!(request.send(), take_one(&listener));
    assert!(answer.unwrap().status().is_success());
    assert_eq!(in_order(&by_limit), in_order(&by_service));
}

#[tokio::test]
async fn the_limit_and_the_adapter_send_one_message_to_each() {
    for by_adapter in [false, true] {
        let send = async |base: &str, recipients: Vec<limit::Recipient>| {
            if by_adapter {
                limit::by_adapter(base, recipients.into(), 8).await
            } else {
                limit::by_client(base, recipients.into(), 8).await
            }
        };
        let sandbox = Sandbox::start(SandboxArgs::on_free_port()).unwrap();
        let recipients = (0..100).map(|n| (79_030_000_000 + n, "Anna", "Moscow")).collect();
        assert_eq!(send(&sandbox.base_url(), recipients).await, Ok(100));
        let stats = sandbox.stats();
        assert_eq!((stats.requests, stats.distinct), (100, 100));
        sandbox.stop().await;
        let refused = send("http://127.0.0.1:1", vec![(1, "", "")]).await;
        assert!(refused.is_err(), "what is not answered is not counted");
    }
}
