//! The HTTP server: its address, its limits, and the checks that every request passes.

use std::net::{SocketAddr, TcpListener};

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{App as ActixApp, web};
use tracing_actix_web::TracingLogger;

use super::engine::EngineAccess;
use super::paths;
use super::wiring::Wiring;
use crate::config::{Config, Role};
use crate::db::{AnyConnection, Db, Workload};
use crate::delivery::repo::claim;
use crate::descriptors;
use crate::error::{Error, Result};
use crate::http::access::{self, Access};
use crate::http::bodies::BodyMemory;
use crate::http::browser::{self, Sites};
use crate::http::channels::{Channels, ProviderStates};
use crate::http::connection::{self, Connections, ResponseMemory};
use crate::http::effects;
use crate::http::health::Probes;
use crate::http::idempotency_header::IdempotencyRetention;
use crate::http::metrics as http_metrics;
use crate::http::parameters::{self, Parameters};
use crate::http::request_log::RequestLog;
use crate::http::server;
use crate::http::stats::NextDue;
use crate::http::wrong_keys::WrongKeys;
use crate::kinds::ChannelKind;

const MIB: usize = 1024 * 1024;

/// Opens the port.
///
/// # Errors
/// [`Error::Unavailable`] if the port is in use, or the address is not one of this machine.
pub(super) fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|e| {
        Error::Unavailable(format!("cannot listen on {address} (HTTP_HOST, HTTP_PORT): {e}").into())
    })
}

/// Adds what the checks, the probes and the pages need.
///
/// # Errors
/// [`Error::Internal`] if the OpenAPI document cannot be read.
pub(super) fn add_services(wiring: &mut Wiring, engine: EngineAccess) -> Result<()> {
    let (config, runtime) = (&wiring.config, &wiring.runtime);
    let services = &mut wiring.services;
    services.add(web::Data::new(Access::new(config.access.api_key.clone())));
    services.add(web::Data::new(sites(config)));
    services.add(web::Data::new(WrongKeys::default()));
    services.add(web::Data::new(Parameters::of_the_document()?));
    services.add(web::Data::new(BodyMemory::new(config.http.body_memory * MIB)));
    services.add(web::Data::new(ResponseMemory::new(config.http.body_memory * MIB)));
    services.add(web::Data::new(IdempotencyRetention(config.idempotency.keep)));
    services.add(web::Data::new(channels(config, engine.provider_states)));
    services.add(web::Data::new(Probes {
        db: runtime.db.doing(Workload::Probe),
        clock: runtime.clock.clone(),
        watchdog: engine.watchdog,
        engine: engine.engine,
        patience: config.delivery.lease + config.delivery.poll * 5,
    }));
    services.add(web::Data::new(next_due(runtime.db.clone())));
    services.add(web::Data::new(runtime.db.clone()));
    services.add(web::Data::new(runtime.live.clone()));
    services.add(web::Data::new(runtime.metrics.clone()));
    // ends the open streams
    services.add(web::Data::new(wiring.shutdown.clone()));
    // the engine's runtime; the server's workers have runtimes of their own
    services.add(web::Data::new(tokio::runtime::Handle::current()));
    Ok(())
}

/// Serves the API, or the probes alone, with the services added so far.
///
/// # Errors
/// [`Error::Unavailable`] if the server does not start.
pub(super) fn serve(listener: TcpListener, wiring: &Wiring) -> Result<Server> {
    let (config, services) = (&wiring.config, wiring.services.clone());
    let paths = if config.node.role == Role::Worker { paths::probes } else { paths::every_path };
    let limit = descriptors::raise_limit();
    let connections = descriptors::connections(config.http.connections, limit, reserved_descriptors(config));
    tracing::debug!(limit, connections, "descriptors");
    let closed = wiring.runtime.metrics.http_connections_closed.clone();
    let connections = Connections::new(connections, closed);
    let shown = web::Data::new(connections.clone());
    let application = move || {
        ActixApp::new()
            .configure(|cfg| services.register(cfg))
            .app_data(shown.clone())
            .wrap(from_fn(effects::note))
            .wrap(from_fn(parameters::check))
            .wrap(from_fn(access::check))
            .wrap(from_fn(browser::guard))
            .wrap(from_fn(http_metrics::count))
            .wrap(TracingLogger::<RequestLog>::new())
            .wrap(from_fn(connection::track_requests))
            .configure(paths)
    };
    server::serve(listener, config.http.workers, &connections, application)
        .map_err(|e| Error::Unavailable(e.into()))
}

fn channels(config: &Config, states: ProviderStates) -> Channels {
    Channels { configured: super::channels::described(config), states }
}

/// Returns the reader of the earliest due time of all lanes.
fn next_due(db: Db) -> NextDue {
    let read = |c: &mut AnyConnection| Ok(claim::next_due(c)?.into_iter().map(|(.., at)| at).min());
    Box::new(move || {
        let db = db.clone();
        Box::pin(async move { db.read(read).await })
    })
}

/// Returns the host names of this service and the sites that may call it.
fn sites(config: &Config) -> Sites {
    let hosts: Vec<String> = config.http.hosts().map(str::to_owned).collect();
    let inboxes = config.in_app.origins().map(str::to_owned);
    Sites::new(config.http.host.is_loopback(), (&hosts, config.http.public_url.as_deref()), inboxes)
}

/// Returns the greatest number of descriptors that the database and the providers use.
fn reserved_descriptors(config: &Config) -> usize {
    let pools = usize::try_from(config.database.pool_size).unwrap_or_default() * 2;
    let workers = ChannelKind::ALL.iter().map(|channel| config.concurrency(*channel));
    pools + workers.sum::<usize>()
}
