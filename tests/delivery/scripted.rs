//! A provider that sends the responses of the test, byte by byte.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::delivery::bench::now;

/// The response to a request.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// A status, additional headers (each ending in CRLF), and a body.
    Http(u16, &'static str, &'static str),
    /// The connection is closed.
    Cut,
    /// No response.
    Silence,
}

/// A response 200 with code 0.
pub const OK: Reply = Reply::Http(200, "", r#"{"code":0,"message":"OK"}"#);

/// A received request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at_us: i64,
    pub id: String,
    pub key: String,
}

/// The provider. It repeats its last response.
pub struct Scripted {
    pub base: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    /// Starts a provider that sends the first reply to the first attempt of each message, the second to the second, and
    /// so on.
    pub async fn start(replies: &'static [Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, replies, Arc::clone(&book)));
            }
        });
        Self { base, seen, task }
    }

    /// Returns the requests in the order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("the book").clone()
    }
}

/// Serves one connection until it ends.
async fn converse(stream: TcpStream, replies: &[Reply], book: Arc<Mutex<Vec<Seen>>>) {
    let mut stream = BufReader::new(stream);
    while let Some((path, headers)) = head(&mut stream).await {
        let length = headers.get("content-length").map_or(0, |text| text.parse().expect("a length"));
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let id = path.rsplit('/').next().expect("an id").to_owned();
        let number = {
            let mut book = book.lock().expect("the book");
            let key = headers.get("idempotency-key").cloned().unwrap_or_default();
            book.push(Seen { at_us: now(), id: id.clone(), key });
            book.iter().filter(|seen| seen.id == id).count()
        };
        match replies.get(number - 1).or(replies.last()).expect("a reply") {
            Reply::Cut => return,
            Reply::Silence => std::future::pending().await,
            Reply::Http(status, more, body) => {
                let length = body.len();
                let answer = format!("HTTP/1.1 {status} .\r\ncontent-length: {length}\r\n{more}\r\n{body}");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Reads the path and the headers of the next request.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<(String, HashMap<String, String>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
    Some((path, headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()))
}
