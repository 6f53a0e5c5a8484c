//! A thousand connections of slow or non-reading clients beside normal traffic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::api::Api;
use crate::args::Kind;
use crate::machine::peak_memory;
use crate::process::{Sandbox, Service};
use crate::statistics::{Figure, latency_json, percentile};
use crate::table::{Table, count, latency, number, ranged};
use crate::{Bench, Result};

const CONNECTIONS: usize = 1000;
/// The time between two requests of the normal traffic. Every other request reads, and the others send a message.
const EVERY: Duration = Duration::from_millis(10);
const MEASURED: Duration = Duration::from_secs(8);
/// The time between two bytes of a slow client.
const A_BYTE: Duration = Duration::from_secs(1);
/// The messages for tomorrow that fill the largest page of a list.
const LARGE: usize = 300;
const STUCK: Duration = Duration::from_secs(60);

/// The behaviour of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// No connections: the baseline.
    None,
    /// Request heads, sent at a byte a second.
    Heads,
    /// Request bodies, sent at a byte a second.
    Bodies,
    /// Lists with the largest page, whose responses are not read.
    Lists,
    /// Live streams, which are not read.
    Streams,
}

impl Sort {
    const ALL: [Self; 5] = [Self::None, Self::Heads, Self::Bodies, Self::Lists, Self::Streams];

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Heads => "heads, a byte a second",
            Self::Bodies => "bodies, a byte a second",
            Self::Lists => "lists, unread",
            Self::Streams => "streams, unread",
        }
    }

    /// Returns the first bytes of a connection, and true if more bytes follow slowly.
    fn opening(self) -> (&'static str, bool) {
        match self {
            Self::None => ("", false),
            Self::Heads => ("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ", true),
            Self::Bodies => (
                "POST /api/v1/clients HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
                 Content-Length: 100000\r\n\r\n{\"name\": \"",
                true,
            ),
            Self::Lists => {
                ("GET /api/v1/notifications?limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", false)
            }
            Self::Streams => ("GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", false),
        }
    }
}

/// The figures of one sort on one database.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// The milliseconds of the normal traffic's requests, of all rounds together.
    pub request: Vec<f64>,
    /// Each round's 99th percentile divided by the one without connections in the same round.
    pub over_none: Figure,
    /// The peak memory so far in megabytes.
    pub peak_memory: Figure,
    /// The refused requests of the normal traffic.
    pub refused: Figure,
}

pub type Strangers = BTreeMap<(Kind, Sort), Beside>;

pub async fn measure(bench: &Bench, kind: Kind, strangers: &mut Strangers) -> Result {
    fanfare::descriptors::raise_limit();
    let database = bench.empty_database(kind)?;
    let provider = bench.args.provider(Duration::ZERO);
    let sandbox = Sandbox::start(bench.directory(), provider).await?;
    let service =
        Service::start(bench.directory(), &database.url(), &sandbox.base, provider.in_flight).await?;
    fill(&service.api).await?;
    let (mut sent, mut alone) = (0, f64::NAN);
    for sort in Sort::ALL {
        let connections = open(service.api.address(), sort).await?;
        let (took, refused, posted) = traffic(&service.api).await?;
        drop(connections);
        sent += posted;
        let p99 = percentile(&took, 0.99).unwrap_or(f64::NAN);
        if sort == Sort::None {
            alone = p99;
        }
        let beside = strangers.entry((kind, sort)).or_default();
        beside.request.extend(took);
        beside.over_none.0.push(p99 / alone);
        beside.refused.0.push(refused as f64);
        beside.peak_memory.0.push(peak_memory(service.process.pid())?);
    }
    all_sent(&service.api, sent).await?;
    service.stop().await
}

/// Posts messages that fill a large page of a list.
async fn fill(api: &Api) -> Result {
    let tomorrow = fanfare::clock::Clock::System.now().plus(Duration::from_hours(24)).to_string();
    let text = "x".repeat(20_000);
    let one =
        |_| json!({"channel": "sms", "recipient": "79001112233", "content": text, "scheduled_at": tomorrow});
    let all: Vec<Value> = (0..LARGE).map(one).collect();
    api.post("/notifications/batch", &json!({"notifications": all})).await.map(drop)
}

/// Opens the connections and opens each again when the service closes it. They close when the value is dropped.
async fn open(address: &str, sort: Sort) -> Result<JoinSet<()>> {
    let mut connections = JoinSet::new();
    if sort == Sort::None {
        return Ok(connections);
    }
    for _ in 0..CONNECTIONS {
        let first = begin(address, sort).await?;
        let address = address.to_owned();
        connections.spawn(async move {
            let mut next = Some(first);
            loop {
                if let Some(stream) = next.take() {
                    hold(stream, sort).await;
                }
                tokio::time::sleep(A_BYTE).await;
                next = begin(&address, sort).await.ok();
            }
        });
    }
    // excludes the cost of opening the connections
    tokio::time::sleep(2 * A_BYTE).await;
    Ok(connections)
}

async fn begin(address: &str, sort: Sort) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(sort.opening().0.as_bytes()).await?;
    Ok(stream)
}

/// Holds a connection until the service closes it.
async fn hold(mut stream: TcpStream, sort: Sort) {
    if !sort.opening().1 {
        // this client reads nothing, so it does not notice the end of the connection
        return std::future::pending().await;
    }
    let mut answer = [0; 256];
    loop {
        tokio::select! {
            read = stream.read(&mut answer) => if read.is_ok_and(|bytes| bytes > 0) { continue } else { return },
            () = tokio::time::sleep(A_BYTE) => if stream.write_all(b"x").await.is_err() { return },
        }
    }
}

/// Runs normal traffic for a while and returns the duration of each request, the number of refusals, and the number of
/// messages posted.
async fn traffic(api: &Api) -> Result<(Vec<f64>, usize, usize)> {
    let mut every = tokio::time::interval(EVERY);
    let (mut asked, began) = (JoinSet::new(), Instant::now());
    while began.elapsed() < MEASURED {
        every.tick().await;
        let (api, reads) = (api.clone(), asked.len() % 2 == 0);
        asked.spawn(async move {
            let began = Instant::now();
            let answered = if reads {
                api.get::<Value>("/clients?limit=10").await.map(drop)
            } else {
                let one = json!({"channel": "sms", "recipient": "79001112233", "content": "x"});
                api.post("/notifications", &one).await.map(drop)
            };
            (reads, answered.is_ok(), began.elapsed().as_secs_f64() * 1e3)
        });
    }
    let answered = asked.join_all().await;
    let posted = answered.iter().filter(|(reads, is_ok, _)| !reads && *is_ok).count();
    let refused = answered.iter().filter(|(_, is_ok, _)| !is_ok).count();
    Ok((answered.into_iter().map(|(.., took)| took).collect(), refused, posted))
}

/// Waits until every message is sent. Returns an error if a message failed.
async fn all_sent(api: &Api, posted: usize) -> Result {
    let began = Instant::now();
    loop {
        let figures: Value = api.get("/metrics").await?;
        let of = |name: &str| figures.pointer(&format!("/channels/sms/{name}")).and_then(Value::as_u64);
        let (sent, failed) = (of("sent").unwrap_or_default(), of("failed").unwrap_or_default());
        if sent == posted as u64 && failed == 0 {
            return Ok(());
        }
        if failed > 0 || began.elapsed() > STUCK {
            return Err(format!("{sent} of {posted} messages were sent and {failed} failed").into());
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Returns the table of slow connections, or `None` if none were measured.
pub fn strangers_text(strangers: &Strangers) -> Option<String> {
    let header = [
        "database",
        "1,000 connections",
        "ms: p50",
        "p99",
        "max",
        "requests",
        "p99 over none",
        "refused",
        "peak MB",
    ];
    let mut table = Table::new(2, &header);
    for ((kind, sort), beside) in strangers {
        let mut cells = vec![kind.name().to_owned(), sort.name().to_owned()];
        cells.extend(latency(&beside.request));
        cells.extend([
            ranged(&beside.over_none, number),
            ranged(&beside.refused, count),
            ranged(&beside.peak_memory, number),
        ]);
        table.row(cells);
    }
    let title = "100 requests a second beside slow connections, every message sent";
    (!strangers.is_empty()).then(|| format!("{title}\n{}", table.text()))
}

pub fn strangers_json(strangers: &Strangers) -> Vec<Value> {
    let one = |((kind, sort), beside): (&(Kind, Sort), &Beside)| {
        json!({
            "database": kind.name(),
            "connections": sort.name(),
            "request_ms": latency_json(&beside.request),
            "p99_over_none": beside.over_none.json(),
            "refused": beside.refused.json(),
            "peak_memory_mb": beside.peak_memory.json(),
        })
    };
    strangers.iter().map(one).collect()
}
