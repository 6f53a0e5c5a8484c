//! A nats-server for one test.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context};
use futures_util::{StreamExt, stream};
use tempfile::TempDir;

use crate::broker::fake::Fake;
use crate::broker::{Node, PATIENCE, until};
use crate::support::api::LOOK;

/// A server with JetStream on its own port. It stops when the value is dropped.
pub struct Nats {
    port: u16,
    folder: TempDir,
    args: Vec<String>,
    server: Option<Child>,
}

impl Nats {
    /// Starts a server with these arguments, such as `["--user", "u", "--pass", "p"]`.
    pub fn start(args: &[&str]) -> Self {
        let mut nats = Self::absent(args);
        // another test may have chosen the same port at the same time
        for _ in 0..20 {
            if nats.launch() {
                return nats;
            }
            nats.port = any_port();
        }
        panic!("no nats-server: {}", nats.log());
    }

    /// Returns a server that was not started yet.
    pub fn absent(args: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            port: any_port(),
            folder,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            server: None,
        }
    }

    /// `nats://…` without a user.
    pub fn url(&self) -> String {
        self.url_with("nats://")
    }

    /// The URL with this text before the host.
    pub fn url_with(&self, before: &str) -> String {
        format!("{before}127.0.0.1:{}", self.port)
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            // it fails if the server has already ended
            let _ = server.kill();
            server.wait().unwrap();
        }
    }

    /// Starts it on the same port and store.
    pub fn start_again(&mut self) {
        assert!(self.launch(), "nats-server does not start again: {}", self.log());
    }

    /// Starts it on the same port and store, with other arguments.
    pub fn start_with(&mut self, args: &[&str]) {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.start_again();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Starts the process. Returns true if it runs and accepts connections on its port.
    fn launch(&mut self) -> bool {
        let installed = Path::new("/usr/sbin/nats-server");
        let program = if installed.exists() { installed } else { Path::new("nats-server") };
        let name = format!("test-{}", self.folder.path().file_name().unwrap().display());
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut server = Command::new("setpriv")
            // it ends with the test, even if the test is killed
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(["--jetstream", "--addr", "127.0.0.1", "--port", &self.port.to_string(), "--name", &name])
            .args(["--store_dir", &path("store"), "--log", &path("log")])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("setpriv {}: {e}; scripts/setup-test installs it", program.display()));
        let began = Instant::now();
        while !is_there(self.port, &name) {
            if server.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "nats-server is not ready: {}", self.log());
            std::thread::yield_now();
        }
        self.server = Some(server);
        true
    }

    /// Returns the test's own client, for a server without a user.
    pub async fn client(&self) -> Context {
        let client = async_nats::connect(self.url()).await.unwrap();
        jetstream::context::ContextBuilder::new().timeout(Duration::from_secs(1)).build(client)
    }

    /// The number of events in the stream, all of them unacknowledged.
    pub async fn unacknowledged(&self, client: &Context) -> u64 {
        self.answered(async || Some(client.get_stream("FANFARE").await.ok()?.cached_info().state.messages))
            .await
    }

    /// The number of events that were delivered and not acknowledged.
    pub async fn in_hand(&self, client: &Context) -> usize {
        self.consumer(client).await.num_ack_pending
    }

    /// Returns true if all events were delivered and acknowledged. nats-server 2.9 may keep a few events as pending
    /// that were acknowledged around a kill, and never delivers them again: they count as settled five `ack_wait`s
    /// after the last delivery.
    pub async fn is_settled(&self, client: &Context) -> bool {
        let consumer = self.consumer(client).await;
        let is_quiet = || {
            let last = consumer.delivered.last_active.map(SystemTime::from);
            let quiet = last.and_then(|last| last.elapsed().ok()).unwrap_or_default();
            consumer.num_ack_pending <= 3 && quiet > 5 * consumer.config.ack_wait
        };
        consumer.num_pending == 0 && (consumer.num_ack_pending == 0 || is_quiet())
    }

    async fn consumer(&self, client: &Context) -> jetstream::consumer::Info {
        let ask = async || client.get_stream("FANFARE").await.ok()?.consumer_info("fanfare").await.ok();
        self.answered(ask).await
    }

    /// Repeats a request until it gets a response: on a busy machine it may time out, and after a restart of the server
    /// the client has to connect again.
    async fn answered<T>(&self, ask: impl AsyncFn() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "nats-server does not answer: {}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The number of pull requests that wait at the consumer.
    pub async fn waiting(&self, client: &Context) -> usize {
        self.consumer(client).await.num_waiting
    }

    /// Returns the test's own client, after a node has created stream and consumer and has stopped.
    pub async fn prepared(&self) -> Context {
        let client = self.client().await;
        let node = Node::on(self, &Fake::that_takes_all());
        until("a consumer", async || match client.get_stream("FANFARE").await {
            Ok(stream) => stream.consumer_info("fanfare").await.is_ok(),
            Err(_) => false,
        })
        .await;
        node.stop().await;
        client
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a port below the ephemeral range, so that no outgoing connection takes it while the server is down.
fn any_port() -> u16 {
    std::iter::repeat_with(|| fastrand::u16(20_000..30_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// Returns true if the server with this name sends its greeting.
fn is_there(port: u16, name: &str) -> bool {
    let Ok(connection) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    connection.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut greeting = String::new();
    BufReader::new(connection).read_line(&mut greeting).is_ok() && greeting.contains(name)
}

/// Publishes `{prefix}-0` to `{prefix}-{count - 1}`, with their ids as bodies, until each is acknowledged.
pub async fn publish(client: &Context, prefix: &str, count: usize) {
    stream::iter(0..count)
        .for_each_concurrent(64, |number| async move {
            let id = format!("{prefix}-{number}");
            publish_as(client, Some(&id), id.clone().into_bytes()).await;
        })
        .await;
}

/// Publishes an event until it is acknowledged.
pub async fn publish_as(client: &Context, id: Option<&str>, body: Vec<u8>) {
    let began = Instant::now();
    loop {
        let mut headers = HeaderMap::new();
        if let Some(id) = id {
            headers.insert("Nats-Msg-Id", id);
        }
        let sent =
            client.publish_with_headers("fanfare.events.user.registered", headers, body.clone().into()).await;
        if let Ok(acknowledged) = sent
            && acknowledged.await.is_ok()
        {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "it cannot be published");
    }
}
