//! A TCP proxy in front of a server that can drop the traffic between client and server.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The behaviour of a proxy towards a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Forwards everything.
    Open,
    /// Accepts everything and forwards nothing, like a firewall that lost the connection's state.
    Silent,
    /// Forwards everything until the client commits, and no response after that.
    SilentAtCommit,
    /// Forwards everything until the client commits, then closes the connection to the client.
    ClosedAtCommit,
}

/// A proxy that runs until the runtime ends.
pub struct Proxy {
    /// The listening address.
    pub address: SocketAddr,
    old: watch::Sender<Way>,
    new: watch::Sender<Way>,
}

impl Proxy {
    /// Starts a proxy in front of this server.
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (old, new) = (watch::channel(Way::Open).0, watch::channel(Way::Open).0);
        let ways = (old.subscribe(), new.subscribe());
        tokio::spawn(accept(listener, upstream, ways));
        Self { address, old, new }
    }

    /// Starts a proxy in front of the server of this URL and also returns the URL through the proxy.
    pub async fn before(url: &str) -> (Self, String) {
        let (head, rest) = url.rsplit_once('@').expect("a user");
        let (server, path) = rest.split_once('/').expect("a database");
        let proxy = Self::start(server.to_owned()).await;
        let through = format!("{head}@{}/{path}", proxy.address);
        (proxy, through)
    }

    /// Changes the behaviour towards all connections.
    pub fn set(&self, way: Way) {
        self.old.send_replace(way);
        self.new.send_replace(way);
    }

    /// Drops the traffic of the present connections and forwards the traffic of later ones.
    pub fn forget_connections(&self) {
        // existing connections follow `old`; connections accepted from now on follow `new`
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
        // the two differ after `forget_connections`, which does not affect this connection
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

/// Forwards one direction. The two directions of a connection share `cut`.
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
