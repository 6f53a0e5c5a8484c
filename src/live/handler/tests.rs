use std::net::TcpListener;
use std::sync::Arc;

use actix_web::App;
use actix_web::dev::ServerHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::db::types::{BatchId, MessageId, Timestamp};
use crate::http::connection::Connections;
use crate::http::server;
use crate::kinds::NotificationStatus;
use crate::lifecycle::{ShutdownTrigger, shutdown};
use crate::live::Change;
use crate::live::hub::EventRing;
use crate::metrics::Metrics;

/// A server with only the stream, configured like the service.
struct Bench {
    live: Live,
    port: u16,
    /// The open connections of the server.
    connections: Connections,
    handle: ServerHandle,
    trigger: Arc<ShutdownTrigger>,
    http: reqwest::Client,
}

impl Bench {
    fn start(kept: usize, most: usize) -> Self {
        let live = Live::with(EventRing::new(kept, most), None);
        live.looked();
        let (trigger, shutdown) = shutdown();
        let (data, ending) = (web::Data::new(live.clone()), web::Data::new(shutdown));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections =
            Connections::new(usize::MAX, Metrics::new().unwrap().http_connections_closed.clone());
        let application = move || {
            App::new()
                .app_data(data.clone())
                .app_data(ending.clone())
                .configure(|cfg| operations().register(cfg, "/api/v1"))
        };
        let server = server::serve(listener, 1, &connections, application).unwrap();
        let handle = server.handle();
        tokio::spawn(server);
        Self {
            live,
            port,
            connections,
            handle,
            trigger: Arc::new(trigger),
            http: crate::egress::client().unwrap(),
        }
    }

    async fn ask(&self, query: &str, last: Option<&str>) -> reqwest::Response {
        let request = self.http.get(format!("http://127.0.0.1:{}/stream{query}", self.port));
        last.into_iter()
            .fold(request, |request, id| request.header("Last-Event-ID", id))
            .send()
            .await
            .unwrap()
    }

    async fn open(&self, query: &str, last: Option<&str>) -> Reader {
        let response = self.ask(query, last).await;
        assert_eq!(response.status(), 200);
        Reader { response, text: String::new(), last: None }
    }

    /// Opens a stream without reading it.
    async fn ask_and_read_nothing(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut peer = socket.connect(([127, 0, 0, 1], self.port).into()).await.unwrap();
        let seats = self.live.hub().taken();
        peer.write_all(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        while self.live.hub().taken() == seats {
            tokio::task::yield_now().await;
        }
        peer
    }
}

/// Reads a stream as browsers do.
struct Reader {
    response: reqwest::Response,
    text: String,
    last: Option<String>,
}

impl Reader {
    /// Returns the next event's name and data, or `None` at the end.
    async fn next(&mut self) -> Option<(String, serde_json::Value)> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let of = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                let event = of("event: ")
                    .map(str::to_owned)
                    .zip(of("data: ").map(|d| serde_json::from_str(d).unwrap()));
                self.last = of("id: ").map(str::to_owned).or(self.last.take());
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let piece = self.response.chunk().await.expect("a whole body")?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// Returns the ids of the next notifications.
    async fn notifications(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let (name, data) = self.next().await.expect("more events");
            assert_eq!(name, "notification", "{data}");
            ids.push(data["id"].as_str().unwrap().to_owned());
        }
        ids
    }

    /// Reads the position, disconnects, and returns the position.
    async fn leave_at_once(mut self) -> String {
        while self.last.is_none() {
            let piece = self.response.chunk().await.unwrap().unwrap();
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
            self.last = self.text.lines().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
        }
        self.last.unwrap()
    }
}

fn change(batch: Option<BatchId>, channel: ChannelKind) -> Change {
    let at = Timestamp::from_micros(1_000_000);
    Change { id: MessageId::new(), batch, channel, status: NotificationStatus::Queued, attempts: 1, at }
}

fn publish(live: &Live, count: usize) -> Vec<String> {
    let changes = (0..count).map(|_| change(None, ChannelKind::Sms));
    changes.inspect(|change| live.publish(change, false)).map(|change| change.id.to_string()).collect()
}

#[tokio::test]
async fn a_stream_has_its_headers_and_contains_the_events_of_its_filter() {
    let bench = Bench::start(100, 10);
    let batch = BatchId::new();
    let mut all = bench.open("", None).await;
    let headers = all.response.headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-accel-buffering"], "no");
    let mut of_batch = bench.open(&format!("?batch_id={batch}"), None).await;
    let mut mails = bench.open("?channel=email", None).await;
    let both = format!("?batch_id={batch}&channel=email");
    let mut mails_of_batch = bench.open(&both, None).await;
    let changes = [
        (None, ChannelKind::Sms),
        (Some(batch), ChannelKind::Sms),
        (None, ChannelKind::Email),
        (Some(batch), ChannelKind::Email),
    ]
    .map(|(batch, channel)| change(batch, channel));
    changes.iter().for_each(|change| bench.live.publish(change, false));
    let ids = changes.map(|change| change.id.to_string());
    assert_eq!(all.notifications(4).await, ids);
    assert_eq!(of_batch.notifications(2).await, [ids[1].clone(), ids[3].clone()]);
    assert_eq!(mails.notifications(2).await, ids[2..]);
    let (name, data) = mails_of_batch.next().await.unwrap();
    let expected = serde_json::json!({"id": ids[3], "batch_id": batch, "channel": "email", "status": "queued",
        "attempts": 1, "at": "1970-01-01T00:00:01.000000Z"});
    assert_eq!((name.as_str(), data), ("notification", expected));
}

#[tokio::test]
async fn a_reconnecting_reader_gets_the_missed_events_also_before_the_first_event() {
    let bench = Bench::start(100, 10);
    let last = bench.open("", None).await.leave_at_once().await;
    let mut told = publish(&bench.live, 3);
    let mut back = bench.open("", Some(&last)).await;
    told.extend(publish(&bench.live, 3));
    assert_eq!(back.notifications(6).await, told);
    // the position of a stream also moves past events that do not match
    let quiet = bench.open("?channel=push", Some(&last)).await.leave_at_once().await;
    let last = back.last.unwrap();
    assert_eq!(quiet, last.replace("-6", "-0"), "it begins at the requested position");
    assert_eq!(bench.open("", Some(&last)).await.leave_at_once().await, last);
}

#[tokio::test]
async fn a_reader_that_reconnects_too_late_gets_a_reset_first() {
    let bench = Bench::start(3, 10);
    let last = bench.open("", None).await.leave_at_once().await;
    publish(&bench.live, 4);
    for last in [last.as_str(), "0123456789abcdef-2", "nonsense"] {
        let mut back = bench.open("", Some(last)).await;
        let told = publish(&bench.live, 1);
        assert_eq!(back.next().await.unwrap().0, "reset", "{last}");
        assert_eq!(back.notifications(1).await, told);
    }
}

/// Publishes more events than fit into the socket of a reader, and one more event that matches this reader's filter.
async fn flood(bench: &Bench, mails: &mut Reader) {
    publish(&bench.live, 500);
    let mail = change(None, ChannelKind::Email);
    bench.live.publish(&mail, false);
    assert_eq!(mails.notifications(1).await, [mail.id.to_string()]);
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_disconnected_and_the_others_get_everything() {
    // more events than fit into sockets, so that the service does not wait
    let bench = Bench::start(40_000, 10);
    let mut mails = bench.open("?channel=email", None).await;
    let mut peer = bench.ask_and_read_nothing().await;
    let mut rounds = 0;
    while bench.live.hub().taken() > 1 {
        flood(&bench, &mut mails).await;
        rounds += 1;
        assert!(rounds < 1000, "the service waits for it");
    }
    // the connection closes although the peer still does not read
    while bench.connections.count() > 1 {
        tokio::task::yield_now().await;
    }
    let _ = peer.read_to_end(&mut Vec::new()).await;
    flood(&bench, &mut mails).await;
}

#[tokio::test]
async fn a_stream_over_the_limit_is_refused_until_another_ends() {
    let bench = Bench::start(100, 1);
    let head = bench.http.head(format!("http://127.0.0.1:{}/stream", bench.port)).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), head.headers()["content-type"].to_str().unwrap()),
        (200, "text/event-stream")
    );
    let reader = bench.open("", None).await;
    let refused = bench.ask("", None).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    let problem: serde_json::Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!(problem["type"], "/problems/too-many-streams");
    drop(reader);
    while bench.live.hub().taken() > 0 {
        // the server notices the end only when it sends an event
        publish(&bench.live, 1);
        tokio::task::yield_now().await;
    }
    bench.open("", None).await;
}

#[tokio::test]
async fn open_streams_end_at_the_shutdown_also_those_that_are_not_read() {
    let bench = Bench::start(1_000_000, 10);
    let mut mails = bench.open("?channel=email", None).await;
    let mut peer = bench.ask_and_read_nothing().await;
    for _ in 0..80 {
        flood(&bench, &mut mails).await;
    }
    bench.trigger.fire();
    assert!(mails.next().await.is_none(), "the body ends completely");
    // the stream that is not read is closed as well, so that it does not delay the shutdown
    while bench.connections.count() > 1 || bench.live.hub().taken() > 0 {
        tokio::task::yield_now().await;
    }
    let _ = peer.read_to_end(&mut Vec::new()).await;
    bench.handle.stop(true).await;
}
