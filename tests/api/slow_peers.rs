//! Callers that occupy shared resources: connections, memory for bodies and responses, slots of imports. It runs the
//! real binary with resource limits.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::process::{Launch, Limit, Provider, Server};
use crate::support::api::{LOOK, PATIENCE};
use crate::support::{Database, TestDb, after};

const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");
const HOUR: Duration = Duration::from_secs(3600);
const MIB: u64 = 1024 * 1024;

/// Starts the service on SQLite with its provider and this resource limit.
async fn start(db: &TestDb, limit: Limit, settings: &[(&str, &str)], faults: &[&str]) -> (Server, Provider) {
    let provider = Provider::start(BINARY, db.dir(), faults).await;
    let mut env = vec![("DATABASE_URL", db.url.as_str()), ("PROVIDER_BASE_URL", provider.base.as_str())];
    env.extend(settings);
    let launch = Launch { binary: BINARY, dir: db.dir(), name: "serve", env: &env, limit };
    (Server::start(&launch).await, provider)
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.base.strip_prefix("http://").expect("an address")).await.expect("a connection")
}

/// Opens a connection with a small receive buffer.
async fn connect_narrow(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let address = server.base.strip_prefix("http://").expect("an address").parse().expect("an address");
    socket.connect(address).await.expect("a connection")
}

/// Reads the head of a response and returns its status and text.
async fn head(stream: &mut TcpStream) -> Option<(u16, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() {
            return None;
        }
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("a head");
    Some((head.split(' ').nth(1)?.parse().ok()?, head))
}

/// Returns the present memory of the service in bytes.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.pid())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("kB") * 1024
}

/// Imports clients with consecutive numbers.
async fn import(server: &Server, count: usize) {
    let rows = (0..count).fold("phone_number,tag\n".to_owned(), |mut csv, n| {
        writeln!(csv, "{},vip", 79_031_110_000_u64 + n as u64).expect("a string");
        csv
    });
    server.import_csv(rows).await.expect("an import");
}

/// Sends a mailing to all clients and returns it when it is finished.
async fn mail(server: &Server) -> Value {
    let mailing = json!({"filter": "vip", "text": "hello", "ends_at": after(HOUR)});
    let id = server.post("/mailings", mailing).await["id"].as_str().expect("an id").to_owned();
    server.wait_for(&format!("/mailings/{id}"), |mailing| mailing["status"] == "finished").await
}

async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "waited for a minute: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_cost_no_message_and_are_closed_for_new_ones() {
    fanfare::descriptors::raise_limit();
    let db = TestDb::new(Database::Sqlite);
    let (server, _provider) = start(&db, Limit::Descriptors(1024), &[], &[]).await;
    import(&server, 300).await;
    let mut silent = Vec::new();
    for _ in 0..1100 {
        let mut stream = connect(&server).await;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.expect("a request");
        assert_eq!(head(&mut stream).await.expect("an answer").0, 200);
        silent.push(stream);
    }
    let done = mail(&server).await;
    assert_eq!((&done["counts"]["sent"], &done["counts"]["failed"]), (&json!(300), &json!(0)), "{done}");
    assert!(server.metric("fanfare_http_connections_closed_total").await > 0.0, "the oldest were closed");
    assert_eq!(server.metric("fanfare_local_faults_total").await, 0.0, "enough descriptors");
    let connections = server.metric("fanfare_http_connections").await;
    assert!(server.metric("process_open_fds").await < connections + 150.0, "one descriptor each");
}

#[tokio::test(flavor = "multi_thread")]
async fn local_resource_shortage_counts_no_attempt() {
    let db = TestDb::new(Database::Sqlite);
    let settings = [("SMS_WORKERS", "250")];
    let (server, _provider) = start(&db, Limit::Descriptors(80), &settings, &["--latency", "2s"]).await;
    import(&server, 200).await;
    let mut callers = join_all((0..8).map(|_| connect(&server))).await;
    for caller in &mut callers {
        caller.write_all(b"HEAD /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.expect("a request");
        assert_eq!(head(caller).await.expect("an answer").0, 200);
    }
    let (done, ()) = tokio::join!(mail(&server), async {
        wait_until("there are fewer descriptors than workers", async || {
            server.metric("fanfare_local_faults_total").await > 0.0
        })
        .await;
        // as many concurrent callers as the database has connections
        for caller in &mut callers {
            let read = b"GET /api/v1/clients?limit=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
            caller.write_all(read).await.expect("a request");
        }
        for caller in &mut callers {
            assert_eq!(head(caller).await.expect("an answer").0, 200, "the database had enough descriptors");
        }
    });
    assert_eq!((&done["counts"]["sent"], &done["counts"]["failed"]), (&json!(200), &json!(0)), "{done}");
    assert_eq!(server.metric("fanfare_retries_total").await, 0.0);
    let path = format!("/mailings/{}/messages?limit=1000", done["id"].as_str().expect("an id"));
    let messages = server.get(&path).await;
    let attempts = messages["items"].as_array().expect("messages").iter().map(|message| &message["attempts"]);
    assert!(attempts.clone().all(|count| *count == 1), "{:?}", attempts.collect::<Vec<_>>());
    assert!(server.process.log().contains("no attempt was counted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_sent_a_byte_at_a_time_are_cut_off() {
    let db = TestDb::new(Database::Sqlite);
    let (server, _provider) = start(&db, Limit::None, &[], &[]).await;
    let paths =
        ["/api/v1/clients", "/api/v1/notifications/batch", "/api/v1/clients/import", "/unsubscribe/abc"];
    let slow = (0..100).map(|n| {
        let server = &server;
        async move {
            let mut stream = connect(server).await;
            let path = paths[n % paths.len()];
            let kind = if path.ends_with("import") { "text/csv" } else { "application/json" };
            let request = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: 100000\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("a request");
            let (mut reader, mut writer) = stream.into_split();
            let dripping = async {
                loop {
                    if writer.write_all(b"p").await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            };
            let mut answer = Vec::new();
            tokio::select! {
                () = dripping => {}
                read = reader.read_to_end(&mut answer) => drop(read),
            }
            (path, String::from_utf8_lossy(&answer).into_owned())
        }
    });
    for (path, answer) in join_all(slow).await {
        let expected = match path {
            // the token is checked before the body is read
            "/unsubscribe/abc" => "HTTP/1.1 404",
            // only a few imports run at once, and further ones are refused at once
            "/api/v1/clients/import" if answer.starts_with("HTTP/1.1 503") => "HTTP/1.1 503",
            _ => "HTTP/1.1 408",
        };
        assert!(answer.starts_with(expected), "{path}: {answer}");
        assert!(answer.contains("/problems/") || path == "/unsubscribe/abc", "{answer}");
    }
    wait_until("the slow ones are gone", async || server.metric("fanfare_http_connections").await <= 5.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_large_bodies_use_bounded_memory() {
    let db = TestDb::new(Database::Sqlite);
    let (server, _provider) = start(&db, Limit::None, &[], &[]).await;
    server.get("/clients").await;
    let before = memory(&server);
    let stalled = (0..100).map(|_| {
        let server = &server;
        async move {
            let mut stream = connect(server).await;
            let head = format!(
                "POST /api/v1/notifications/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                15 * MIB
            );
            stream.write_all(head.as_bytes()).await.expect("a head");
            let piece = vec![b' '; MIB as usize];
            // an error means that the request was refused
            for _ in 0..14 {
                if stream.write_all(&piece).await.is_err() {
                    break;
                }
            }
            stream
        }
    });
    let mut stalled = join_all(stalled).await;
    let more = memory(&server).saturating_sub(before);
    assert!(more < 100 * MIB, "{} MiB more", more / MIB);
    // there is still room for small bodies
    server.post("/clients", json!({"phone_number": "79031110001"})).await;
    let mut refused = 0;
    for stream in &mut stalled {
        // a connection that was refused during writing may have been reset
        refused += usize::from(head(stream).await.is_none_or(|(status, _)| status == 503));
    }
    assert!((95..100).contains(&refused), "{refused} were refused, the others timed out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_import_is_refused_at_once() {
    let db = TestDb::new(Database::Sqlite);
    let (server, _provider) = start(&db, Limit::None, &[], &[]).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&server).await;
        let request = "POST /api/v1/clients/import HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/csv\r\nContent-Length: 100000\r\n\r\nphone_number\n";
        stream.write_all(request.as_bytes()).await.expect("a request");
        open.push(stream);
    }
    // the import that reached its handler last
    let heads = open.iter_mut().map(|stream| Box::pin(head(stream)));
    let (first, _, others) = futures_util::future::select_all(heads).await;
    let (status, head) = first.expect("an answer");
    assert!(status == 503 && head.contains("retry-after: "), "{head}");
    assert!(others.into_iter().all(|other| other.now_or_never().is_none()), "the other four go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_large_items_are_paged_by_bytes_and_slow_readers_are_cut_off() {
    let db = TestDb::new(Database::Sqlite);
    let settings = [("EMAIL_PROVIDER_URL", "http://127.0.0.1:9")];
    let (server, _provider) = start(&db, Limit::None, &settings, &[]).await;
    let html = format!("<p>{}</p>", "x".repeat(190_000));
    let mail = json!({"channel": "email", "recipient": "anna@example.com", "subject": "s", "content": "t", "html": html,
        "scheduled_at": after(HOUR)});
    for _ in 0..10 {
        let batch = json!({"notifications": vec![mail.clone(); 60]});
        server.post("/notifications/batch", batch).await;
    }
    let (mut seen, mut cursor) = (0, String::new());
    loop {
        let url = server.url(&format!("/notifications?limit=1000{cursor}"));
        let answer = server.http.get(url).send().await.expect("an answer").bytes().await.expect("a body");
        assert!(answer.len() as u64 <= 4 * MIB + 1000, "{}", answer.len());
        let page: Value = serde_json::from_slice(&answer).expect("JSON");
        seen += page["items"].as_array().expect("items").len();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, 600);
    let before = memory(&server);
    let unread = (0..12).map(|_| async {
        let mut stream = connect_narrow(&server).await;
        let request = "GET /api/v1/notifications?limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("a request");
        stream
    });
    let unread = join_all(unread).await;
    wait_until("all requests are served", async || server.metric("fanfare_http_connections").await >= 13.0)
        .await;
    let mut most = 0;
    wait_until("clients that do not read are cut off", async || {
        most = most.max(memory(&server).saturating_sub(before));
        server.metric("fanfare_http_connections").await < 13.0
    })
    .await;
    assert!(most < 100 * MIB, "{} MiB more", most / MIB);
    drop(unread);
}
