//! The handles that the parts of the service are wired from, and the tasks and services that they add.

use std::future::Future;
use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};
use tokio::task::JoinHandle;

use super::secrets::Secrets;
use super::{channels, credentials};
use crate::clock::Clock;
use crate::config::Config;
use crate::credentials::Credentials;
use crate::db::{Db, Workload};
use crate::egress::guard::Guard;
use crate::endpoints::EndpointCache;
use crate::error::Result;
use crate::lifecycle::{self, Shutdown, ShutdownTrigger, supervise, supervise_while_used};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::runtime::Runtime;

/// The configuration, the handles that all domains share, and the tasks and services that they have added so far.
pub(super) struct Wiring {
    pub(super) config: Config,
    pub(super) secrets: Secrets,
    /// For the services that handlers use.
    pub(super) runtime: Runtime,
    /// For tasks, whose statements have time limits of their own.
    pub(super) background: Runtime,
    /// Checks and sends requests to URLs from users.
    pub(super) guard: Arc<Guard>,
    pub(super) endpoint_cache: Arc<EndpointCache>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) trigger: ShutdownTrigger,
    pub(super) shutdown: Shutdown,
    /// The tasks that use the database: once they have ended, another service may open the file.
    pub(super) tasks: Vec<JoinHandle<()>>,
    pub(super) services: Services,
}

impl Wiring {
    /// Creates what all domains share, and starts the endpoint cache.
    ///
    /// # Errors
    /// [`crate::error::Error::Invalid`] for an invalid setting, and database errors.
    pub(super) async fn new(config: Config, db: Db, clock: Clock, metrics: Metrics) -> Result<Self> {
        let secrets = Secrets::load(&config, &db, clock.now()).await?;
        let (trigger, shutdown) = lifecycle::shutdown();
        let live = Live::new(db.is_single_node());
        let runtime = Runtime { db, clock, metrics, live };
        let background = Runtime { db: runtime.db.doing(Workload::Engine), ..runtime.clone() };
        let guard = Arc::new(channels::guard(&config)?);
        let endpoint_cache = Arc::new(EndpointCache::new(
            background.db.clone(),
            background.clock.clone(),
            background.live.clone(),
            channels::endpoints(&config)?,
        ));
        let credentials = Arc::new(Credentials::new(
            runtime.db.clone(),
            runtime.clock.clone(),
            Arc::clone(&guard),
            credentials::vault(&config)?,
        ));
        let mut wiring = Self {
            config,
            secrets,
            runtime,
            background,
            guard,
            endpoint_cache: Arc::clone(&endpoint_cache),
            credentials: Arc::clone(&credentials),
            trigger,
            shutdown: shutdown.clone(),
            tasks: Vec::new(),
            services: Services::default(),
        };
        wiring.supervise("endpoint cache", endpoint_cache.run(shutdown));
        wiring.services.add(web::Data::from(credentials));
        Ok(wiring)
    }

    /// Runs a task until the shutdown.
    pub(super) fn supervise(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(supervise(name, self.trigger.clone(), task));
    }

    /// Runs a task until its last user is gone.
    pub(super) fn supervise_while_used(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tasks.push(supervise_while_used(name, self.trigger.clone(), task));
    }
}

/// Registers one service for the handlers of one worker.
type Register = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// The services that the handlers use. Each domain adds its own.
#[derive(Clone, Default)]
pub(super) struct Services(Vec<Register>);

impl Services {
    /// Adds a service, which handlers receive as `web::Data<T>`.
    pub(super) fn add<T: Send + Sync + 'static>(&mut self, service: web::Data<T>) {
        self.0.push(Arc::new(move |cfg| {
            cfg.app_data(service.clone());
        }));
    }

    /// Registers all services for the handlers of one worker.
    pub(super) fn register(&self, cfg: &mut ServiceConfig) {
        self.0.iter().for_each(|add| add(cfg));
    }
}
