//! The composition root: the only place that knows all modules and wires them together. Each domain has a file that
//! starts its tasks and adds its services.

pub mod api;
mod broker;
mod channels;
mod clients;
mod credentials;
mod database;
mod dead_letters;
mod engine;
mod messaging;
mod paths;
mod pulse;
mod requests;
mod secrets;
mod server;
mod sweepers;
mod wiring;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::web;
use tokio::task::JoinHandle;

use self::clients::Addresses;
pub use self::credentials::credentials_beside;
pub use self::database::{Migration, Target, migrations, open_db};
use self::engine::{EngineAccess, NodeWork};
pub use self::messaging::domains_of_routes;
use self::messaging::{Messaging, missing};
use self::wiring::Wiring;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::db::{Db, Workload};
use crate::endpoints::{EndpointCache, Endpoints};
use crate::error::{Error, Result};
use crate::lifecycle::{Shutdown, ShutdownTrigger, supervise};
use crate::live::observer::MailingObserver;
use crate::mailings::Mailings;
use crate::metrics::Metrics;
use crate::sending::{self, Sending};

/// The time to record the outcomes of the last attempts after these have ended.
const LAST_WORDS: Duration = Duration::from_secs(8);
/// The time without a successful write after which the database counts as unresponsive.
const SILENT: Duration = Duration::from_secs(5);

/// A running service. Dropping it does not stop it; call [`App::stop`].
pub struct App {
    address: SocketAddr,
    server: JoinHandle<()>,
    handle: ServerHandle,
    work: NodeWork,
    observer: JoinHandle<()>,
    /// The other tasks that use the database: once they have ended, another service may open the file.
    tasks: Vec<JoinHandle<()>>,
    /// The last results of webhooks in it are stored at shutdown.
    endpoint_cache: Arc<EndpointCache>,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
    db: Db,
    /// The time for attempts in flight to end.
    patience: Duration,
}

impl App {
    /// Opens the database, starts the engine and listens.
    ///
    /// # Errors
    /// A part of the configuration does not work, such as the database or the address.
    pub async fn start(config: Config, clock: Clock) -> Result<Self> {
        let metrics = Metrics::new()?;
        // before the database is written, so that an invalid key changes nothing
        credentials::vault(&config)?;
        let db = open_db(&config, &metrics).await?.exclusive()?.fill().await?.doing(Workload::Request);
        let (clock, pulse) = database::followed(&db, clock, &metrics).await;
        // bind before the engine starts: a second service must not begin to send before it finds the port in use
        let listener = server::listen(config.listen())?;
        let mut wiring = Wiring::new(config, db, clock, metrics).await?;
        // before anything is sent
        let addresses = Addresses::adopt(&wiring.runtime).await?;
        pause_if_configured(&wiring).await?;
        wiring.supervise("pulse", pulse.run(wiring.trigger.clone(), wiring.shutdown.clone()));
        Self::run(wiring, addresses, listener).await
    }

    /// Starts the engine, all domains and the server.
    async fn run(mut wiring: Wiring, addresses: Addresses, listener: TcpListener) -> Result<Self> {
        let address = listener.local_addr().map_err(|e| Error::Internal(e.into()))?;
        let (work, engine) = engine::start(&wiring).await?;
        let observer = observe(&wiring);
        let messaging = messaging::start(&mut wiring, &engine);
        sweepers::start(&mut wiring);
        let letters = dead_letters::start(&mut wiring, &engine, &messaging.events)?;
        requests::start(&mut wiring, &engine, letters);
        clients::start(&mut wiring, addresses, &messaging)?;
        add_mailings(&mut wiring, &engine, messaging);
        add_endpoints(&mut wiring)?;
        server::add_services(&mut wiring, engine)?;
        let server = server::serve(listener, &wiring)?;
        let handle = server.handle();
        let server = supervise("HTTP server", wiring.trigger.clone(), async {
            if let Err(error) = server.await {
                tracing::error!(%error, "HTTP server failed");
            }
        });
        tracing::info!(%address, "fanfare listens");
        Ok(Self {
            address,
            server,
            handle,
            work,
            observer,
            tasks: wiring.tasks,
            endpoint_cache: wiring.endpoint_cache,
            trigger: wiring.trigger,
            shutdown: wiring.shutdown,
            db: wiring.runtime.db,
            patience: wiring.config.shutdown.timeout,
        })
    }

    /// Returns the address on which the service listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a task fails: it panicked, it ended early, or it requests the end of the process.
    pub async fn failed(&self) {
        self.shutdown.wait().await;
    }

    /// Stops accepting work, finishes the attempts in flight and releases the remaining leases.
    pub async fn stop(self) {
        self.trigger.fire();
        // a deadline in any case, and an earlier one if the database has been unresponsive
        let words = if self.db.unwritten_for() > SILENT { SILENT / 2 } else { LAST_WORDS };
        self.db.end_by(Instant::now() + self.patience + words);
        self.handle.stop(true).await;
        let _ = self.server.await;
        let _ = self.observer.await;
        self.work.stop().await;
        if let Err(error) = self.endpoint_cache.write().await {
            tracing::warn!(%error, "results of the last webhooks not stored");
        }
        for task in self.tasks {
            let _ = task.await;
        }
        self.db.release().await;
    }
}

/// Pauses sending if the configuration says so, until it is resumed over the API.
async fn pause_if_configured(wiring: &Wiring) -> Result<()> {
    if wiring.config.delivery.sending == config::Sending::Off {
        let now = wiring.runtime.clock.now();
        wiring.runtime.db.write(move |c| sending::repo::pause(c, now)).await?;
        tracing::warn!("sending paused by SENDING=off or --paused until POST /api/v1/sending/resume");
    }
    Ok(())
}

/// Starts the observer of status changes.
fn observe(wiring: &Wiring) -> JoinHandle<()> {
    let background = &wiring.background;
    let observer =
        MailingObserver::new(background.db.clone(), background.clock.clone(), background.live.clone());
    supervise("observer", wiring.trigger.clone(), observer.run(wiring.shutdown.clone()))
}

/// Adds mailings, and the switch that pauses all sending.
fn add_mailings(wiring: &mut Wiring, engine: &EngineAccess, messaging: Messaging) {
    let (db, clock) = (wiring.runtime.db.clone(), wiring.runtime.clock.clone());
    let mailings = Mailings::new(
        db.clone(),
        clock.clone(),
        (Arc::clone(&engine.wakeup), Arc::clone(&engine.rates)),
        missing(&wiring.config),
        messaging.templates,
    );
    wiring.services.add(web::Data::new(mailings));
    wiring.services.add(web::Data::new(Sending::new(db, clock, Arc::clone(&engine.switch))));
}

/// Adds webhook endpoints.
///
/// # Errors
/// [`Error::Invalid`] for an invalid key of credentials.
fn add_endpoints(wiring: &mut Wiring) -> Result<()> {
    let vault = credentials::vault(&wiring.config)?.and(&wiring.secrets.answers)?;
    let endpoints = Endpoints::new(
        wiring.runtime.db.clone(),
        wiring.runtime.clock.clone(),
        Arc::clone(&wiring.guard),
        (Arc::clone(&wiring.endpoint_cache), Arc::new(vault)),
    );
    wiring.services.add(web::Data::new(endpoints));
    Ok(())
}
