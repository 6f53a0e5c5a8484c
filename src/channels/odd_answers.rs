//! Responses with a malformed head: the status decides, and no message is sent twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use figment::Figment;
use figment::providers::{Format, Toml};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::discord::{self, Discord};
use super::gateway::Gateway;
use super::keyring::{Authorization, Authorizing, Keyring, Unauthorized};
use super::request::HttpRequests;
use super::sms::Sms;
use super::sms_http::HttpSms;
use super::webhook::{SameForAll, Secret, Webhook};
use super::*;
use crate::clock::Clock;
use crate::egress::guard::{Guard, Settings};
use crate::kinds::ChannelKind;

/// A body that every provider's API treats as success.
const TAKEN: &str = r#"{"code": 0, "id": "7"}"#;

/// Lines of a head, each wrong in its own way; `LENGTH` is replaced by the body's length.
const ODD: &[&str] = &[
    "X-A: one\r\n two\r\n\tthree\r\nContent-Length: LENGTH",
    "Server : x\r\nContent-Length : LENGTH",
    "a line without a colon\r\nContent-Length: LENGTH",
    ": no name\r\nContent-Length: LENGTH",
    "X(A): b\r\nContent-Length: LENGTH",
    "X-A: \u{1}\u{7f}\r\nContent-Length: LENGTH",
    "X-A: a\rb\0c\r\nContent-Length: LENGTH",
    " folded onto nothing\r\nContent-Length: LENGTH",
    "MANY\r\nContent-Length: LENGTH",
    "Content-Length: 5O",
    "Content-Length: -1",
    "Content-Length:",
    "Content-Length: LENGTH\r\nContent-Length: 7",
    "Content-Length: LENGTH, LENGTH",
    "Content-Length: 99999999999999999999999",
    "Content-Length: 999",
    "Transfer-Encoding : chunked\r\nX-A",
];

fn odd_answers(status: &str, body: &str) -> Vec<String> {
    let many = (0..120).map(|at| format!("X-{at}: {at}")).collect::<Vec<_>>().join("\r\n");
    let answer = |lines: &&str| {
        let lines = lines.replace("MANY", &many).replace("LENGTH", &body.len().to_string());
        let is_chunked = lines.contains("chunked");
        let body = if is_chunked { format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()) } else { body.into() };
        format!("HTTP/1.1 {status}\r\n{lines}\r\n\r\n{body}")
    };
    ODD.iter().map(answer).collect()
}

/// A server that sends the same response to every request, closes, and counts the requests.
struct Server {
    url: String,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

async fn read_request(socket: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    loop {
        if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return false;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return true;
        }
    }
}

impl Server {
    async fn new(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            loop {
                let mut socket = listener.accept().await.unwrap().0;
                if read_request(&mut socket).await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = socket.write_all(answer.as_bytes()).await;
                    let _ = socket.shutdown().await;
                    // until the client has closed too, so that the connection is not reset
                    while socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
                }
            }
        });
        Self { url, requests, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct NoCredentials;

impl Keyring for NoCredentials {
    fn authorize<'a>(&'a self, _: &'a str) -> Authorizing<'a> {
        Box::pin(std::future::ready(Err(Unauthorized::Never("none".into()))))
    }

    fn refuse(&self, _: &str, _: &Authorization) {}
}

fn request(url: &str, is_report: bool) -> Delivery {
    let spec = RequestSpec {
        verb: "POST".into(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Some("{}".into()),
        is_json: true,
        timeout_ms: 10_000,
        credential: None,
        again: None,
        is_report,
    };
    Delivery { request: Some(Arc::new(spec)), ..Delivery::to(url, "") }
}

/// Every way to send a message over HTTP, with a delivery for it.
fn paths(base: &str) -> Vec<(&'static str, Box<dyn Channel>, Delivery)> {
    let allowed = "127.0.0.0/8".parse().unwrap();
    let guard = Arc::new(Guard::new(&Settings { allowed, ..Settings::default() }).unwrap());
    let directory = || Arc::new(SameForAll(vec![Secret::generate().unwrap()]));
    let hook = format!("{base}/api/webhooks/1/token");
    let toml = format!(
        "url = '{base}/send?to={{{{ phone }}}}'\njson = '{{\"text\": {{{{ text }}}}}}'\ncode = '/code'\nsuccess = {{ codes = ['0'] }}"
    );
    let settings = Figment::from(Toml::string(&toml)).extract().unwrap();
    let discord = |hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Box::new(Discord::new(discord::DiscordSettings { hosts }, Arc::clone(&guard), Clock::System))
    };
    let requests = || {
        let keyring = Arc::new(NoCredentials);
        Box::new(HttpRequests::new(Arc::clone(&guard), (directory(), keyring), Clock::System))
    };
    let sms = || Delivery::to("79030000001", "Hi");
    vec![
        ("sms", Box::new(Sms::new(base, None, Clock::System).unwrap()), sms()),
        ("sms.http", Box::new(HttpSms::new(&settings, &|_| None, Clock::System).unwrap()), sms()),
        (
            "gateway",
            Box::new(Gateway::new(ChannelKind::Email, ("a", base), None, Clock::System).unwrap()),
            Delivery::to("anna@example.com", "Hi"),
        ),
        (
            "webhook",
            Box::new(Webhook::new(Arc::clone(&guard), directory(), Clock::System)),
            Delivery::to(&hook, "Hi"),
        ),
        ("discord", discord(&["127.0.0.1"]), Delivery::to(&hook, "Hi")),
        ("slack", discord(&[]), Delivery::to(&hook, "Hi")),
        ("request", requests(), request(&hook, false)),
        ("report", requests(), request(&hook, true)),
    ]
}

#[tokio::test]
async fn success_with_an_odd_head_is_success_after_one_request() {
    for answer in odd_answers("200 OK", TAKEN) {
        let server = Server::new(answer.clone()).await;
        for (at, (path, channel, delivery)) in paths(&server.url).into_iter().enumerate() {
            let came = channel.send(delivery).await;
            assert_eq!(
                (came.verdict, came.status_code),
                (DeliveryResult::Delivered, Some(200)),
                "{path}: {answer:?}"
            );
            assert_eq!(server.requests.load(Ordering::SeqCst), at + 1, "{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn failure_with_an_odd_head_is_failure_by_its_status() {
    for answer in odd_answers("400 Bad Request", "{}") {
        let server = Server::new(answer.clone()).await;
        for (path, channel, delivery) in paths(&server.url) {
            let came = channel.send(delivery).await;
            assert_eq!(came.status_code, Some(400), "{path}: {answer:?}");
            assert!(!matches!(came.verdict, DeliveryResult::Delivered), "{path}: {answer:?}");
        }
    }
}
