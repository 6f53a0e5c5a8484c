//! The sandbox provider: the third party's SMS API and a gateway for the other channels, with faults on demand.
//!
//! It takes the place of a real provider, and reports to tests the facts that a real one would not: which messages
//! arrived, how often, and when. It shares no code with the rest of the service; the two communicate over HTTP only.
//!
//! | path | effect |
//! |---|---|
//! | `POST /v1/send/{id}` | the third party's API: one message to one phone |
//! | `POST /v1/notify/{id}` | the gateway's API: one message to one recipient on any channel |
//! | `GET /stats`, `DELETE /stats` | reads or resets the counts of received requests |
//! | `GET /faults`, `PUT /faults` | reads or replaces all faults |
//! | `GET /health` | returns 200 once the sandbox serves |

mod args;
mod channel;
mod faults;
mod files;
mod message;
mod provider;
mod request_log;
mod routes;
mod stats;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

pub use args::SandboxArgs;
pub use channel::ByChannel;
pub use faults::{Faults, InvalidFaults};
pub use stats::{ByStatus, Stats};

use self::files::{named, write_whole};
use self::provider::Provider;

/// The service under test shares the machine, so the sandbox must not use all cores.
const WORKERS: usize = 2;

/// Enough for a request body of 256 KiB as a JSON string, in the worst case.
const LONGEST_BODY: usize = 2 * 1024 * 1024;

/// Longer than the 90 s for which HTTP clients commonly keep an idle connection. The server must not be the first to
/// close one: a request that crosses with the close would fail without a fault having been requested.
const KEEP_ALIVE: Duration = Duration::from_mins(2);

/// A sandbox provider that serves until it is stopped or dropped.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    provider: Arc<Provider>,
    handle: ServerHandle,
    server: JoinHandle<io::Result<()>>,
}

impl Sandbox {
    /// Binds the address and serves on its own threads.
    ///
    /// # Errors
    /// If it is called outside a tokio runtime, the address is in use, the log or the port file cannot be written, or
    /// the faults are invalid.
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
        // A client that gives up on a hung request closes its connection, which must end the request here too. With
        // half-closed connections allowed, the request would keep its socket for ten minutes.
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

    /// The address on which it listens; with port 0 in the settings, the free port that was found.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The value for `PROVIDER_BASE_URL` and for the other channels' `…_PROVIDER_URL`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The counts, as `GET /stats` returns them.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.provider.tally.stats()
    }

    /// The faults in force.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.provider.faults()
    }

    /// Replaces all faults from the next request on; requests in progress keep theirs.
    ///
    /// # Errors
    /// If a rate is not between 0 and 1, or the rates add up to more than 1; then nothing changes.
    pub fn set_faults(&self, faults: Faults) -> Result<(), InvalidFaults> {
        self.provider.set_faults(faults)
    }

    /// Stops serving and waits until the port is free. Open connections are closed, hung ones included: waiting for
    /// them would mean waiting for every idle connection of a client's pool.
    pub async fn stop(mut self) {
        self.handle.stop(false).await;
        if let Err(error) = (&mut self.server).await {
            tracing::error!(%error, "sandbox provider failed");
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // `stop` sends the command when it is called; awaiting it would only wait for its completion.
        drop(self.handle.stop(false));
    }
}

/// Serves until SIGINT or SIGTERM: the `fanfare sandbox` command.
///
/// # Errors
/// As [`Sandbox::start`], or if the server stops by itself.
pub async fn run(args: SandboxArgs) -> io::Result<()> {
    // Before the start, so that a signal sent as soon as the port file exists finds its handler.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let port_file = args.port_file.clone();
    let mut sandbox = Sandbox::start(args)?;
    tracing::info!(addr = %sandbox.addr, seed = sandbox.provider.seed, "sandbox provider started");
    let ended = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        ended = &mut sandbox.server => Some(ended),
    };
    if let Some(path) = port_file {
        // A stale address would mislead the next script; an already deleted file is fine.
        let _ = std::fs::remove_file(path);
    }
    match ended {
        None => sandbox.stop().await,
        Some(Ok(Ok(()))) => return Err(io::Error::other("the sandbox provider stopped unexpectedly")),
        Some(Ok(Err(error))) => return Err(error),
        Some(Err(error)) => return Err(io::Error::other(error)),
    }
    tracing::info!("sandbox provider stopped");
    Ok(())
}
