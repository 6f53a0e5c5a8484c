//! The provider to try against: the third party's SMS API and a gateway for the other channels, with faults on demand.
//!
//! It stands where a real provider would, so the tests can ask of it what no real one tells: which messages
//! arrived, how often, and when. It knows nothing of the rest of the service, and nothing of the service
//! knows it; the two meet over HTTP only.
//!
//! | path | what it does |
//! |---|---|
//! | `POST /v1/send/{id}` | the third party's API: one message to one phone |
//! | `POST /v1/notify/{id}` | the gateway's API: one message to one recipient on any channel |
//! | `GET /stats`, `DELETE /stats` | what was received since the start or the last reset |
//! | `GET /faults`, `PUT /faults` | the faults in force, and all of them replaced |
//! | `GET /health` | 200 as soon as it serves |

mod faults;
mod message;
mod provider;
mod request_log;
mod routes;
mod stats;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

pub use faults::{Faults, InvalidFaults};
pub use stats::{ByChannel, ByStatus, Stats};

use provider::Provider;

/// The service under test shares the machine, so the sandbox must not take all of it.
const WORKERS: usize = 2;

/// A request's body of 256 KiB as a text in JSON, at worst.
const LONGEST_BODY: usize = 2 * 1024 * 1024;

/// Longer than the 90 s for which HTTP clients commonly keep an idle connection. The server must not be the
/// first to close one: a request that crosses with the close fails although no fault was asked for.
const KEEP_ALIVE: Duration = Duration::from_mins(2);

/// What the sandbox listens on, keeps and breaks.
#[derive(clap::Args, Clone, Debug)]
pub struct SandboxArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value_t = default_listen())]
    pub listen: SocketAddr,

    /// Write the address that it listens on to this file, once it does
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,

    /// Answer 401 to requests that do not carry this bearer token [default: any or none will do]
    #[arg(long)]
    pub token: Option<SecretString>,

    /// Append one JSON line per request to this file, before the request is answered
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Seed of the random faults, to repeat a run [default: random]
    #[arg(long)]
    pub seed: Option<u64>,

    /// The faults to start with; `PUT /faults` changes them later.
    #[command(flatten)]
    pub faults: Faults,
}

impl Default for SandboxArgs {
    fn default() -> Self {
        Self {
            listen: default_listen(),
            port_file: None,
            token: None,
            log: None,
            seed: None,
            faults: Faults::default(),
        }
    }
}

impl SandboxArgs {
    /// The defaults on a free port of the loopback interface: one sandbox for each test.
    #[must_use]
    pub fn on_free_port() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Self::default() }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 8090))
}

/// A sandbox provider that serves until it is stopped or dropped.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    provider: Arc<Provider>,
    handle: ServerHandle,
    server: JoinHandle<io::Result<()>>,
}

impl Sandbox {
    /// Binds the address and serves on threads of its own.
    ///
    /// # Errors
    /// When called outside a tokio runtime, when the address is taken, when the log or the port file cannot
    /// be written, or when the faults do not fit together.
    pub fn start(args: SandboxArgs) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let provider = Arc::new(Provider::new(&args)?);
        let data = web::Data::from(Arc::clone(&provider));
        let http = HttpServer::new(move || {
            let longest = web::PayloadConfig::new(LONGEST_BODY);
            App::new().app_data(data.clone()).app_data(longest).configure(routes::configure)
        })
        .workers(WORKERS)
        .keep_alive(KEEP_ALIVE)
        .tcp_nodelay(true)
        // A client that gives up on a hung request closes its connection, and that must end the request
        // here too: with half-closed connections allowed it would hold its socket for ten minutes.
        .h1_allow_half_closed(false)
        .on_connect(routes::keep_cut)
        .disable_signals()
        .bind(args.listen)
        .map_err(|error| named(&format!("cannot listen on {}", args.listen), &error))?;
        let addr = http.addrs().first().copied().unwrap_or(args.listen);
        if let Some(path) = &args.port_file {
            write_whole(path, &addr.to_string())
                .map_err(|error| named(&format!("cannot write {}", path.display()), &error))?;
        }
        let server = http.run();
        let handle = server.handle();
        Ok(Self { addr, provider, handle, server: runtime.spawn(server) })
    }

    /// Where it listens; with port 0 in the arguments, the port that was free.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What to set `PROVIDER_BASE_URL` and the other channels' `…_PROVIDER_URL` to.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The same that `GET /stats` answers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.provider.tally.stats()
    }

    /// The faults in force.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.provider.faults()
    }

    /// Replaces all faults from the next request on; requests under way keep theirs.
    ///
    /// # Errors
    /// When a share is not between 0 and 1, or they come to more than 1 together; then nothing changes.
    pub fn set_faults(&self, faults: Faults) -> Result<(), InvalidFaults> {
        self.provider.set_faults(faults)
    }

    /// Stops serving and waits until the port is free. Open connections are cut, hung ones included: to wait
    /// for them would be to wait for every idle connection of a client's pool.
    pub async fn stop(mut self) {
        self.handle.stop(false).await;
        if let Err(error) = (&mut self.server).await {
            tracing::error!(%error, "sandbox provider ended badly");
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The command is sent when `stop` is called; awaiting it would only tell when it is done.
        drop(self.handle.stop(false));
    }
}

/// Serves until SIGINT or SIGTERM: the `fanfare sandbox` command.
///
/// # Errors
/// As [`Sandbox::start`], or when the server ends by itself.
pub async fn run(args: SandboxArgs) -> io::Result<()> {
    // Before the start, so that a signal sent as soon as the port file is there finds its handler.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let port_file = args.port_file.clone();
    let mut sandbox = Sandbox::start(args)?;
    tracing::info!(addr = %sandbox.addr, seed = sandbox.provider.seed, "sandbox provider listens");
    let ended = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        ended = &mut sandbox.server => Some(ended),
    };
    if let Some(path) = port_file {
        // A stale address would lead the next script astray; a file that is gone already is as good.
        let _ = std::fs::remove_file(path);
    }
    match ended {
        None => sandbox.stop().await,
        Some(Ok(Ok(()))) => return Err(io::Error::other("the sandbox provider ended by itself")),
        Some(Ok(Err(error))) => return Err(error),
        Some(Err(error)) => return Err(io::Error::other(error)),
    }
    tracing::info!("sandbox provider stopped");
    Ok(())
}

/// Writes a file so that a reader sees all of it or none.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    std::fs::write(&temporary, format!("{text}\n"))?;
    std::fs::rename(&temporary, path)
}

/// An I/O error that says what was being done: the bare one names neither file nor address.
fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
