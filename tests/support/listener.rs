//! A third-party server that receives requests and the reports of their results. It records each arrival and its time.
#![allow(dead_code, reason = "each that includes it uses a part of it")]

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use fanfare::clock::Clock;
use serde_json::Value;

/// Longer than a client keeps an idle connection, so that the server is never the first to close one.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// A received request.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The time at which its head was read, in microseconds since the epoch.
    pub at_us: i64,
    /// The HTTP method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The headers by their lower-case names.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Arrival {
    /// Returns a header, or an empty string.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Returns the body as JSON, or null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A response.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    after: Duration,
}

impl From<u16> for Reply {
    /// Creates a response with this status and a JSON body that contains it.
    fn from(status: u16) -> Self {
        let body = serde_json::json!({"status": status}).to_string().into_bytes();
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body,
            after: Duration::ZERO,
        }
    }
}

impl Reply {
    /// Creates a response with this status and body, without a `Content-Type`.
    pub fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), after: Duration::ZERO }
    }

    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Delays the response by this time.
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

/// Returns the response to a request, given the number of earlier requests to its path.
type Answers = Box<dyn Fn(&Arrival, usize) -> Reply + Send + Sync>;

#[derive(Default)]
struct Seen {
    arrivals: Vec<Arrival>,
    by_path: HashMap<String, usize>,
}

struct Book {
    answers: Answers,
    seen: Mutex<Seen>,
}

impl Book {
    fn note(&self, arrival: Arrival) -> Reply {
        let mut seen = self.seen();
        let times = seen.by_path.entry(arrival.path.clone()).or_default();
        let reply = (self.answers)(&arrival, *times);
        *times += 1;
        seen.arrivals.push(arrival);
        reply
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that listens until the value is dropped.
pub struct Listener {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    book: Arc<Book>,
    handle: ServerHandle,
}

impl Listener {
    /// Starts a server on a free port.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start<R: Into<Reply>>(
        answers: impl Fn(&Arrival, usize) -> R + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let answers: Answers = Box::new(move |arrival, before| answers(arrival, before).into());
        let book = Arc::new(Book { answers, seen: Mutex::default() });
        let data = web::Data::from(Arc::clone(&book));
        let http =
            HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(arrive)))
                .workers(1)
                .keep_alive(KEEP_ALIVE)
                .tcp_nodelay(true)
                .disable_signals()
                .bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = http.addrs().first().copied().ok_or_else(|| io::Error::other("no address"))?;
        let server = http.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { base: format!("http://{address}"), book, handle })
    }

    /// Returns all requests so far, in the order in which they were read.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.book.seen().arrivals.clone()
    }

    /// Returns the requests to a path so far.
    pub fn at(&self, path: &str) -> Vec<Arrival> {
        self.book.seen().arrivals.iter().filter(|arrival| arrival.path == path).cloned().collect()
    }

    /// Returns the number of requests so far with this path prefix.
    pub fn count(&self, path: &str) -> usize {
        self.book.seen().arrivals.iter().filter(|arrival| arrival.path.starts_with(path)).count()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // the call itself stops the server; awaiting it would only report completion
        drop(self.handle.stop(false));
    }
}

async fn arrive(book: web::Data<Book>, request: HttpRequest, body: web::Payload) -> HttpResponse {
    let at_us = Clock::System.now().micros();
    // a request that was cut off does not count as an arrival
    let Ok(body) = body.to_bytes().await else { return HttpResponse::BadRequest().finish() };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = request.headers().iter();
    let arrival = Arrival {
        at_us,
        method: request.method().to_string(),
        path: request.path().to_owned(),
        headers: headers.map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        body: body.to_vec(),
    };
    let reply = book.note(arrival);
    if !reply.after.is_zero() {
        tokio::time::sleep(reply.after).await;
    }
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for header in reply.headers {
        response.append_header(header);
    }
    response.body(reply.body)
}
