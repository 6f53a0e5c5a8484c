//! The composition root: the only place that knows all modules and wires them together.

pub mod api;
pub mod broker;
mod channels;
mod clients;
mod credentials;
mod database;
mod dependencies;
mod paths;
mod pulse;
mod requests;
mod secrets;

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::{Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::{App as ActixApp, web};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing_actix_web::TracingLogger;

use self::clients::ClientServices;
pub use self::credentials::credentials_beside;
pub use self::database::{Migration, Target, migrations, open_db};
use self::dependencies::Dependencies;
pub use self::dependencies::domains_of_routes;
use self::secrets::Secrets;
use crate::clients::Clients;
use crate::clock::Clock;
use crate::config::{self, Config, Role};
use crate::credentials::Credentials;
use crate::db::listen::Listener;
use crate::db::{AnyConnection, Db, Workload};
use crate::dead_letters::replayer::Replayer;
use crate::dead_letters::usecase::ReplayNotifiers;
use crate::dead_letters::{self, DeadLetters};
use crate::delivery::announce::Announcer;
use crate::delivery::repo::claim;
use crate::delivery::{Engine, EngineSettings, backlog};
use crate::descriptors;
use crate::egress::guard::{Guard, PlainHttp};
use crate::endpoints::{EndpointCache, Endpoints};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::events::handler::broker::FromBroker;
use crate::http::access::{self, Access};
use crate::http::bodies::BodyMemory;
use crate::http::browser::{self, Sites};
use crate::http::channels::{Channels, ProviderStates};
use crate::http::connection::{self, Connections, ResponseMemory};
use crate::http::effects;
use crate::http::health::{Heartbeat, Probes};
use crate::http::idempotency_header::IdempotencyRetention;
use crate::http::parameters::{self, Parameters};
use crate::http::request_log::RequestLog;
use crate::http::stats::NextDue;
use crate::http::wrong_keys::WrongKeys;
use crate::http::{metrics as http_metrics, server};
use crate::idempotency;
use crate::inbox::delivery::InboxWriter;
use crate::inbox::handler::auth::Origins;
use crate::inbox::{self, Inbox};
use crate::kinds::ChannelKind;
use crate::lifecycle::{self, Shutdown, ShutdownTrigger, supervise, supervise_while_used};
use crate::live::Live;
use crate::live::observer::MailingObserver;
use crate::mailings::Mailings;
use crate::mailings::usecase::{ChannelRates, Wakeup};
use crate::messages::Messages;
use crate::metrics::Metrics;
use crate::notifications::Notifications;
use crate::notifications::notifier::NewMessageNotifier;
use crate::notifications::usecase::NotificationLimits;
use crate::pending_mailing::watchdog::Watchdog;
use crate::people::{self, People};
use crate::preferences::handler::unsubscribe::Brand;
use crate::preferences::link::UnsubscribeTokens;
use crate::preferences::{self, PreferenceService};
use crate::requests::{Recurring, Requests};
use crate::routes::Routes;
use crate::runtime::Runtime;
use crate::sending::usecase::Switch;
use crate::sending::{self, Sending};
use crate::suppressions::Suppressions;
use crate::templates::Templates;

const MIB: usize = 1024 * 1024;
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
    /// The endpoint cache, whose last results of webhooks are stored at shutdown.
    book: Arc<EndpointCache>,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
    db: Db,
    /// The time for attempts in flight to end.
    patience: Duration,
}

/// The work besides serving the API.
enum NodeWork {
    /// This node starts mailings and sends messages.
    Here { engine: Box<Engine>, watchdog: JoinHandle<()>, letters: JoinHandle<()> },
    /// Other nodes do this work, and this node notifies them of changes.
    Elsewhere { announcing: (ShutdownTrigger, JoinHandle<()>), listener: Option<Listener> },
}

/// The handles through which the API reaches the engine, here or on other nodes.
struct EngineDependencies {
    wakeup: Arc<dyn Wakeup>,
    rates: Arc<dyn ChannelRates>,
    arrivals: Arc<dyn NewMessageNotifier>,
    switch: Arc<dyn Switch>,
    watchdog: Option<Heartbeat>,
    engine: Option<Heartbeat>,
    provider_states: ProviderStates,
}

/// The channels' rate limits from the configuration, for a node that does not send.
struct ConfiguredRates(BTreeMap<ChannelKind, f64>);

impl ConfiguredRates {
    fn new(config: &Config) -> Self {
        let limit = |channel: &ChannelKind| Some((*channel, config.rate(*channel)?));
        Self(ChannelKind::ALL.iter().filter_map(limit).collect())
    }
}

impl ChannelRates for ConfiguredRates {
    fn rate(&self, channel: ChannelKind) -> Option<f64> {
        self.0.get(&channel).copied()
    }
}

/// The services that the handlers use.
#[derive(Clone)]
struct Services {
    clients: ClientServices,
    endpoints: web::Data<Endpoints>,
    credentials: web::Data<Credentials>,
    channels: web::Data<Channels>,
    mailings: web::Data<Mailings>,
    messages: web::Data<Messages>,
    sending: web::Data<Sending>,
    templates: web::Data<Templates>,
    dead_letters: web::Data<DeadLetters>,
    notifications: web::Data<Notifications>,
    routes: web::Data<Routes>,
    events: web::Data<Events>,
    requests: web::Data<Requests>,
    recurring: web::Data<Recurring>,
    keeping: web::Data<IdempotencyRetention>,
    metrics: web::Data<Metrics>,
    inbox: web::Data<Inbox>,
    preferring: web::Data<PreferenceService>,
    people: web::Data<People>,
    brand: web::Data<Brand>,
    suppressions: web::Data<Suppressions>,
    origins: web::Data<Origins>,
    live: web::Data<Live>,
    next_due: web::Data<NextDue>,
    /// Ends the open streams.
    shutdown: web::Data<Shutdown>,
    db: web::Data<Db>,
    access: web::Data<Access>,
    sites: web::Data<Sites>,
    wrong_keys: web::Data<WrongKeys>,
    probes: web::Data<Probes>,
    parameters: web::Data<Parameters>,
    bodies: web::Data<BodyMemory>,
    answers: web::Data<ResponseMemory>,
    /// The engine's runtime; the server's workers have runtimes of their own.
    runtime: web::Data<tokio::runtime::Handle>,
}

impl App {
    /// Opens the database, starts the engine and listens.
    ///
    /// # Errors
    /// A part of the configuration does not work, such as the database or the address.
    pub async fn start(config: Config, clock: Clock) -> Result<Self> {
        let metrics = Metrics::new()?;
        let vault = credentials::vault(&config)?;
        let db = open_db(&config, &metrics).await?.exclusive()?.fill().await?.doing(Workload::Request);
        let (clock, pulse) = database::followed(&db, clock, &metrics).await;
        // bind before the engine starts: a second service must not begin to send before it finds the port in use
        let listener = listen(config.listen())?;
        let address = listener.local_addr().map_err(|e| Error::Internal(e.into()))?;
        let secrets = Secrets::load(&config, &db, clock.now()).await?;
        let suppressions = Suppressions::new(db.clone(), clock.clone());
        // before anything is sent
        suppressions.adopt().await?;
        let clients = Clients::new(db.clone(), clock.clone());
        clients.adopt().await?;
        if config.delivery.sending == config::Sending::Off {
            let now = clock.now();
            db.write(move |c| sending::repo::pause(c, now)).await?;
            tracing::warn!("sending paused by SENDING=off or --paused until POST /api/v1/sending/resume");
        }
        let (trigger, shutdown) = lifecycle::shutdown();
        let live = Live::new(db.is_single_node());
        let tasks_db = db.doing(Workload::Engine);
        let runtime =
            Runtime { db: db.clone(), clock: clock.clone(), metrics: metrics.clone(), live: live.clone() };
        let background = Runtime { db: tasks_db.clone(), ..runtime.clone() };
        let guard = Arc::new(channels::guard(&config)?);
        let granted = channels::endpoints(&config)?;
        let book = Arc::new(EndpointCache::new(tasks_db.clone(), clock.clone(), live.clone(), granted));
        let cache = Arc::clone(&book).run(shutdown.clone());
        let mut tasks = vec![supervise("endpoint cache", trigger.clone(), cache)];
        tasks.push(supervise("pulse", trigger.clone(), pulse.run(trigger.clone(), shutdown.clone())));
        let credentials = Arc::new(Credentials::new(db.clone(), clock.clone(), Arc::clone(&guard), vault));
        let ways = (Arc::clone(&guard), Arc::clone(&book), Arc::clone(&credentials));
        let (work, partners) =
            work((&config, &secrets), background.clone(), ways, (&trigger, &shutdown)).await?;
        let observer = MailingObserver::new(tasks_db.clone(), clock.clone(), live.clone());
        let observer = supervise("observer", trigger.clone(), observer.run(shutdown.clone()));
        let ways = (&guard, secrets.links(&config));
        let doors = Dependencies::new(&config, runtime.clone(), (&partners, &shutdown), ways);
        // they end with the server, which owns the last handle to them
        tasks.push(supervise_while_used("intake", trigger.clone(), doors.notes.run()));
        tasks.push(supervise_while_used("events", trigger.clone(), doors.taking.run()));
        let sweep = idempotency::sweep(tasks_db.clone(), clock.clone(), shutdown.clone());
        tasks.push(supervise("sweeper", trigger.clone(), sweep));
        let sweep = inbox::usecase::sweep(tasks_db.clone(), clock.clone(), shutdown.clone());
        tasks.push(supervise("inbox sweeper", trigger.clone(), sweep));
        let sweep = preferences::usecase::sweep(tasks_db.clone(), shutdown.clone());
        tasks.push(supervise("address sweeper", trigger.clone(), sweep));
        let sweep = people::usecase::sweep(tasks_db.clone(), clock.clone(), shutdown.clone());
        tasks.push(supervise("erased clients", trigger.clone(), sweep));
        let keep = dead_letters::keeper::keep(background.clone(), config.dead_letters.keep, shutdown.clone());
        tasks.push(supervise("dead letters", trigger.clone(), keep));
        let watch = backlog::watch(background.clone(), shutdown.clone());
        tasks.push(supervise("backlog", trigger.clone(), watch));
        let told = ReplayNotifiers {
            wakeup: Arc::clone(&partners.wakeup),
            arrivals: Arc::clone(&partners.arrivals),
            live: live.clone(),
            metrics: metrics.clone(),
        };
        let (db_of_events, most_tries) = (tasks_db.clone(), config.kafka.tries);
        let events = FromBroker::new(Arc::clone(&doors.events), db_of_events, clock.clone(), most_tries);
        let events = Arc::new(events);
        let wake = Arc::new(Notify::new());
        if config.node.role != Role::Api {
            let ways = (Arc::clone(&wake), config.delivery.poll);
            let replayer = Replayer::new(background.clone(), told.clone(), events.clone(), ways);
            tasks.push(supervise("replayer", trigger.clone(), replayer.run(shutdown.clone())));
            let doors = (Arc::clone(&doors.events), events.clone());
            tasks.extend(broker::start(&config, doors, background, (&trigger, &shutdown))?);
        }
        let waking = (wake, config.dead_letters.replay_rate);
        let dead_letters = DeadLetters::new(runtime.clone(), told, events, waking);
        let ways = (Arc::clone(&guard), Arc::clone(&partners.arrivals));
        let held = (Arc::clone(&credentials), dead_letters.clone());
        let asked = requests::RequestDependencies::new(&config, runtime.clone(), ways, held);
        tasks.push(supervise_while_used("requests", trigger.clone(), asked.taking.run()));
        if let Some(timekeeper) = asked.timekeeper {
            tasks.push(supervise("timekeeper", trigger.clone(), timekeeper.run(shutdown.clone())));
        }
        let messages = Messages::new(db.clone());
        let tokens = UnsubscribeTokens::new(&secrets.unsubscribe);
        let preferring = Arc::new(PreferenceService::new(db.clone(), clock.clone(), tokens));
        let suppressions = Arc::new(suppressions);
        let people = People::new(
            runtime.clone(),
            (clients.clone(), messages.clone()),
            (Arc::clone(&doors.notifications), Arc::clone(&doors.events)),
            (Arc::clone(&preferring), Arc::clone(&suppressions)),
        );
        let (clients, client_tasks) =
            ClientServices::start(clients, &config, (&db, &clock), &live, (&trigger, &shutdown))?;
        tasks.extend(client_tasks);
        let services = Services {
            requests: web::Data::from(asked.requests),
            recurring: web::Data::new(asked.recurring),
            dead_letters: web::Data::new(dead_letters),
            clients,
            endpoints: web::Data::new(Endpoints::new(
                db.clone(),
                clock.clone(),
                Arc::clone(&guard),
                (Arc::clone(&book), Arc::new(credentials::vault(&config)?.and(&secrets.answers)?)),
            )),
            credentials: web::Data::from(credentials),
            channels: web::Data::new(Channels {
                configured: channels::described(&config),
                states: partners.provider_states,
            }),
            mailings: web::Data::new(Mailings::new(
                db.clone(),
                clock.clone(),
                (partners.wakeup, partners.rates),
                missing(&config),
                doors.templates.clone(),
            )),
            messages: web::Data::new(messages),
            sending: web::Data::new(Sending::new(db.clone(), clock.clone(), partners.switch)),
            templates: web::Data::new(doors.templates),
            notifications: web::Data::from(doors.notifications),
            routes: web::Data::new(doors.routes),
            events: web::Data::from(doors.events),
            keeping: web::Data::new(IdempotencyRetention(config.idempotency.keep)),
            inbox: web::Data::new(Inbox::new(runtime, &secrets.inbox)),
            preferring: web::Data::from(preferring),
            people: web::Data::new(people),
            brand: web::Data::new(Brand(config.preferences.brand_name.clone())),
            suppressions: web::Data::from(suppressions),
            origins: web::Data::new(Origins(config.in_app.origins().map(str::to_owned).collect())),
            metrics: web::Data::new(metrics),
            access: web::Data::new(Access::new(config.access.api_key.clone())),
            sites: web::Data::new(sites(&config)),
            wrong_keys: web::Data::new(WrongKeys::default()),
            probes: web::Data::new(Probes {
                db: db.doing(Workload::Probe),
                clock,
                watchdog: partners.watchdog,
                engine: partners.engine,
                patience: config.delivery.lease + config.delivery.poll * 5,
            }),
            parameters: web::Data::new(Parameters::of_the_document()?),
            live: web::Data::new(live),
            next_due: web::Data::new(next_due(db.clone())),
            shutdown: web::Data::new(shutdown.clone()),
            db: web::Data::new(db.clone()),
            bodies: web::Data::new(BodyMemory::new(config.http.body_memory * MIB)),
            answers: web::Data::new(ResponseMemory::new(config.http.body_memory * MIB)),
            runtime: web::Data::new(tokio::runtime::Handle::current()),
        };
        let server = serve(listener, &config, services)?;
        let handle = server.handle();
        let server = async {
            if let Err(error) = server.await {
                tracing::error!(%error, "HTTP server failed");
            }
        };
        let server = supervise("HTTP server", trigger.clone(), server);
        tracing::info!(%address, "fanfare listens");
        let patience = config.shutdown.timeout;
        Ok(Self { address, server, handle, work, observer, tasks, book, trigger, shutdown, db, patience })
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
        match self.work {
            NodeWork::Here { engine, watchdog, letters } => {
                let _ = watchdog.await;
                engine.stop().await;
                let _ = letters.await;
            }
            NodeWork::Elsewhere { announcing: (silence, announcer), listener } => {
                // after the server, so that its last changes are announced
                silence.fire();
                // with a timeout, since the database may be unavailable
                let _ = tokio::time::timeout(Duration::from_secs(1), announcer).await;
                // on a blocking thread: its own may be connecting, and must not be interrupted by the end of the
                // process
                let _ = tokio::task::spawn_blocking(move || drop(listener)).await;
            }
        }
        if let Err(error) = self.book.write().await {
            tracing::warn!(%error, "results of the last webhooks not stored");
        }
        for task in self.tasks {
            let _ = task.await;
        }
        self.db.release().await;
    }
}

/// Starts the work of the node's role.
async fn work(
    (config, secrets): (&Config, &Secrets),
    runtime: Runtime,
    (guard, book, keyring): (Arc<Guard>, Arc<EndpointCache>, Arc<Credentials>),
    (trigger, shutdown): (&ShutdownTrigger, &Shutdown),
) -> Result<(NodeWork, EngineDependencies)> {
    if config.node.role == Role::Api {
        let Runtime { db, live, .. } = runtime;
        let announcer = Announcer::new(db.clone(), live);
        let (silence, silenced) = lifecycle::shutdown();
        let task = supervise("announcer", trigger.clone(), Arc::clone(&announcer).run(silenced));
        let hearing = Arc::clone(&announcer);
        // this node sends nothing, but its waiting callers and subscribers need the changes from other nodes
        let heard = move |payload: &str| {
            hearing.hear(payload);
        };
        let listener = db.listen(heard).await?;
        let partners = EngineDependencies {
            wakeup: announcer.clone(),
            rates: Arc::new(ConfiguredRates::new(config)),
            arrivals: announcer.clone(),
            switch: announcer,
            watchdog: None,
            engine: None,
            provider_states: Box::new(|_| None),
        };
        return Ok((NodeWork::Elsewhere { announcing: (silence, task), listener }, partners));
    }
    let (letterbox, taking) = InboxWriter::new(runtime.clone(), config.in_app.keep);
    // ends with the engine, which owns the last handle to it
    let letters = supervise_while_used("inbox writer", trigger.clone(), taking.run());
    let channels =
        channels::ChannelFactory { config, clock: &runtime.clock, guard, book, letterbox, keyring }.all()?;
    let ends = (trigger.clone(), shutdown.clone());
    let engine = Engine::start(runtime.clone(), settings(config, secrets), channels, ends).await?;
    let handle = engine.handle();
    let watchdog = Watchdog::new(runtime, handle.clone(), config.delivery.poll, handle.pending());
    let (looked_at, beating, gates) = (watchdog.looked_at(), handle.clone(), handle.clone());
    let partners = EngineDependencies {
        wakeup: handle.clone(),
        rates: handle.clone(),
        arrivals: handle.clone(),
        switch: handle,
        watchdog: Some(Box::new(looked_at)),
        engine: Some(Box::new(move || beating.beat_at())),
        provider_states: Box::new(move |channel| gates.provider_state(channel)),
    };
    let watchdog = supervise("watchdog", trigger.clone(), watchdog.run(shutdown.clone()));
    Ok((NodeWork::Here { engine: Box::new(engine), watchdog, letters }, partners))
}

/// Returns the reader of the earliest due time of all lanes.
fn next_due(db: Db) -> NextDue {
    let read = |c: &mut AnyConnection| Ok(claim::next_due(c)?.into_iter().map(|(.., at)| at).min());
    Box::new(move || {
        let db = db.clone();
        Box::pin(async move { db.read(read).await })
    })
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|e| {
        Error::Unavailable(format!("cannot listen on {address} (HTTP_HOST, HTTP_PORT): {e}").into())
    })
}

fn settings(config: &Config, secrets: &Secrets) -> EngineSettings {
    EngineSettings {
        page_size: config.delivery.page_size,
        lane_capacity: config.delivery.lane_capacity,
        record_batch: config.delivery.record_batch,
        poll: config.delivery.poll,
        claim_poll: claim_poll(config),
        retry_after_max: config.retry.after_max,
        lease: config.delivery.lease,
        shutdown: config.shutdown.timeout,
        // the configuration's check has refused invalid names
        quiet_zone: config.preferences.quiet_hours_timezone.parse().unwrap_or(chrono_tz::Tz::UTC),
        links: secrets.links(config),
    }
}

/// Returns the poll interval of the claimer, the shorter of two settings: scheduled messages and retries wait in one
/// table, and one task polls for both.
fn claim_poll(config: &Config) -> Duration {
    config.delivery.scheduler_interval.min(config.retry.interval)
}

/// Returns the unconfigured channels, each with the settings that it needs.
fn missing(config: &Config) -> HashMap<ChannelKind, String> {
    let missing = |channel: &ChannelKind| Some((*channel, config.missing_provider(*channel)?));
    ChannelKind::ALL.iter().filter_map(missing).collect()
}

/// Returns the check of a URL from a user.
fn url_check(guard: Arc<Guard>) -> impl Fn(&str) -> std::result::Result<(), String> + Send + Sync {
    move |url| guard.check_url(url, PlainHttp::WithinAllowed).map(drop).map_err(|why| why.to_string())
}

/// Returns the limits of notifications.
fn terms(config: &Config, guard: Arc<Guard>, shutdown: &Shutdown) -> NotificationLimits {
    let retries = |kind: &ChannelKind| (*kind, channels::retries(config, *kind).single.delays().len());
    NotificationLimits {
        missing: missing(config),
        check_url: Box::new(url_check(guard)),
        intake_limit: config.notifications.intake_limit,
        retries: ChannelKind::ALL.iter().map(retries).collect(),
        patience: config.notifications.sync_wait,
        shutdown: shutdown.clone(),
    }
}

fn serve(listener: TcpListener, config: &Config, services: Services) -> Result<Server> {
    let paths = if config.node.role == Role::Worker { paths::probes } else { paths::every_path };
    let limit = descriptors::raise_limit();
    let connections = descriptors::connections(config.http.connections, limit, reserved_descriptors(config));
    tracing::debug!(limit, connections, "descriptors");
    let connections = Connections::new(connections, services.metrics.http_connections_closed.clone());
    let shown = web::Data::new(connections.clone());
    let application = move || {
        ActixApp::new()
            .configure(|cfg| services.clients.give(cfg))
            .app_data(services.endpoints.clone())
            .app_data(services.credentials.clone())
            .app_data(services.channels.clone())
            .app_data(services.mailings.clone())
            .app_data(services.messages.clone())
            .app_data(services.sending.clone())
            .app_data(services.templates.clone())
            .app_data(services.dead_letters.clone())
            .app_data(services.notifications.clone())
            .app_data(services.routes.clone())
            .app_data(services.events.clone())
            .app_data(services.requests.clone())
            .app_data(services.recurring.clone())
            .app_data(services.keeping.clone())
            .app_data(services.metrics.clone())
            .app_data(services.access.clone())
            .app_data(services.sites.clone())
            .app_data(services.wrong_keys.clone())
            .app_data(services.probes.clone())
            .app_data(services.inbox.clone())
            .app_data(services.preferring.clone())
            .app_data(services.people.clone())
            .app_data(services.brand.clone())
            .app_data(services.suppressions.clone())
            .app_data(services.origins.clone())
            .app_data(services.live.clone())
            .app_data(services.next_due.clone())
            .app_data(services.shutdown.clone())
            .app_data(services.db.clone())
            .app_data(services.runtime.clone())
            .app_data(services.parameters.clone())
            .app_data(services.bodies.clone())
            .app_data(services.answers.clone())
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
