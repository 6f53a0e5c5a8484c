//! A TCP proxy before a server, which can lose what goes through it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The behaviour of a proxy towards a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Passes everything on.
    Open,
    /// Takes everything and passes nothing on, like a firewall that forgot the connection.
    Silent,
    /// Passes everything on until the client commits, then no answer any more.
    SilentAtCommit,
    /// Passes everything on until the client commits, then closes the connection to the client.
    ClosedAtCommit,
}

/// A proxy that runs until the runtime ends.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    old: watch::Sender<Way>,
    new: watch::Sender<Way>,
}

impl Proxy {
    /// Before this server.
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (old, new) = (watch::channel(Way::Open).0, watch::channel(Way::Open).0);
        let ways = (old.subscribe(), new.subscribe());
        tokio::spawn(accept(listener, upstream, ways));
        Self { address, old, new }
    }

    /// Before the server of this URL; also returns the URL that leads through the proxy.
    pub async fn before(url: &str) -> (Self, String) {
        let (head, rest) = url.rsplit_once('@').expect("a user");
        let (server, path) = rest.split_once('/').expect("a database");
        let proxy = Self::start(server.to_owned()).await;
        let through = format!("{head}@{}/{path}", proxy.address);
        (proxy, through)
    }

    /// Changes what is done with all connections.
    pub fn set(&self, way: Way) {
        self.old.send_replace(way);
        self.new.send_replace(way);
    }

    /// Loses what is on the connections of now, and passes on what is on later ones.
    pub fn forget_connections(&self) {
        // connections follow `old` only from their beginning; a new one begins with what `new` says
        self.new.send_replace(Way::Open);
        self.old.send_replace(Way::Silent);
    }
}

async fn accept(
    listener: TcpListener,
    upstream: String,
    (old, new): (watch::Receiver<Way>, watch::Receiver<Way>),
) {
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        // one that comes when the others are forgotten is not among them
        let way = if *old.borrow() == *new.borrow() { old.clone() } else { new.clone() };
        let upstream = upstream.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(&upstream).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let cut = Arc::new(watch::channel(Way::Open).0);
            let there = pass(from_client, to_server, (way.clone(), Arc::clone(&cut), true));
            let back = pass(from_server, to_client, (way, cut, false));
            tokio::join!(there, back);
        });
    }
}

/// Passes on what comes one way. `cut` is what the two ways of a connection tell each other.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (way, cut, from_client): (watch::Receiver<Way>, Arc<watch::Sender<Way>>, bool),
) {
    let mut told = cut.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(count) if count > 0 => count,
                _ => return,
            },
            _ = told.wait_for(|way| *way == Way::ClosedAtCommit), if !from_client => return,
        };
        let bytes = &buffer[..count];
        let now = *way.borrow();
        if now == Way::Silent || (!from_client && *cut.borrow() != Way::Open) {
            continue;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
        let commits = from_client && bytes.windows(6).any(|word| word == b"COMMIT");
        if commits && matches!(now, Way::SilentAtCommit | Way::ClosedAtCommit) {
            cut.send_replace(now);
        }
    }
}
