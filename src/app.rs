//! The composition root: the only place that knows everyone and wires them together.

pub mod broker;
mod channels;
mod clients;
mod credentials;
mod database;
mod doors;
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
use self::doors::Doors;
pub use self::doors::domains_of_routes;
use self::secrets::Secrets;
use crate::clients::Clients;
use crate::clock::Clock;
use crate::config::{self, Config, Role};
use crate::credentials::Credentials;
use crate::db::listen::Listener;
use crate::db::{AnyConnection, Db, Workload};
use crate::dead_letters::replayer::Replayer;
use crate::dead_letters::usecase::Told;
use crate::dead_letters::{self, DeadLetters};
use crate::delivery::announce::Announcer;
use crate::delivery::repo::claim;
use crate::delivery::{Engine, Settings, backlog};
use crate::descriptors;
use crate::egress::guard::{Guard, Plain};
use crate::endpoints::{Book, Endpoints};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::events::handler::broker::FromBroker;
use crate::http::access::{self, Access};
use crate::http::bodies::BodyMemory;
use crate::http::browser::{self, Sites};
use crate::http::channels::{Channels, ProviderStates};
use crate::http::connection::{self, AnswerMemory, Connections};
use crate::http::effects;
use crate::http::figures::NextDue;
use crate::http::health::{Probes, SignOfLife};
use crate::http::once::Keeping;
use crate::http::parameters::{self, Parameters};
use crate::http::request_log::RequestLog;
use crate::http::wrong_keys::WrongKeys;
use crate::http::{metrics as http_metrics, server};
use crate::idempotency;
use crate::inbox::delivery::Letterbox;
use crate::inbox::handler::door::Origins;
use crate::inbox::{self, Inbox};
use crate::kinds::ChannelKind;
use crate::lifecycle::{self, Shutdown, Trigger, supervise};
use crate::live::Live;
use crate::live::observer::Observer;
use crate::mailings::Mailings;
use crate::mailings::usecase::{ChannelRates, Wakeup};
use crate::messages::Messages;
use crate::metrics::Metrics;
use crate::notifications::Notifications;
use crate::notifications::usecase::{Arrivals, Terms};
use crate::pending_mailing::watchdog::Watchdog;
use crate::people::{self, People};
use crate::preferences::handler::unsubscribe::Brand;
use crate::preferences::link::Tokens;
use crate::preferences::{self, Preferring};
use crate::requests::{Recurring, Requests};
use crate::routes::Routes;
use crate::sending::usecase::Switch;
use crate::sending::{self, Sending};
use crate::suppressions::Suppressions;
use crate::templates::Templates;

const MIB: usize = 1024 * 1024;
/// For the database to take what came of the last attempts, after those have ended.
const LAST_WORDS: Duration = Duration::from_secs(8);
/// A database that takes nothing for so long does not answer.
const SILENT: Duration = Duration::from_secs(5);

/// A service that listens. Dropping it stops nothing; call [`App::stop`].
pub struct App {
    address: SocketAddr,
    server: JoinHandle<std::io::Result<()>>,
    handle: ServerHandle,
    work: Work,
    observer: JoinHandle<()>,
    /// What else holds the database: when it has ended, another service may have the file.
    tasks: Vec<JoinHandle<()>>,
    /// Writes what came of the last webhooks.
    book: Arc<Book>,
    trigger: Trigger,
    shutdown: Shutdown,
    db: Db,
    /// For what is in flight to end.
    patience: Duration,
}

/// What runs beside the server.
enum Work {
    /// Mailings are begun and sent.
    Here { engine: Engine, watchdog: JoinHandle<()>, letters: JoinHandle<()> },
    /// Other nodes do that, and are told of changes.
    Elsewhere { announcing: (Trigger, JoinHandle<()>), listener: Option<Listener> },
}

/// The parts of the work that the API speaks to.
struct Partners {
    wakeup: Arc<dyn Wakeup>,
    rates: Arc<dyn ChannelRates>,
    arrivals: Arc<dyn Arrivals>,
    switch: Arc<dyn Switch>,
    watchdog: Option<SignOfLife>,
    engine: Option<SignOfLife>,
    provider_states: ProviderStates,
}

/// The channels' limits, as far as a node knows them that does not send.
struct Limits(BTreeMap<ChannelKind, f64>);

impl Limits {
    fn new(config: &Config) -> Self {
        let limit = |channel: &ChannelKind| Some((*channel, config.rate(*channel)?));
        Self(ChannelKind::ALL.iter().filter_map(limit).collect())
    }
}

impl ChannelRates for Limits {
    fn rate(&self, channel: ChannelKind) -> Option<f64> {
        self.0.get(&channel).copied()
    }
}

/// What the handlers are given.
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
    keeping: web::Data<Keeping>,
    metrics: web::Data<Metrics>,
    inbox: web::Data<Inbox>,
    preferring: web::Data<Preferring>,
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
    answers: web::Data<AnswerMemory>,
    /// Of the engine; the server's workers have runtimes of their own.
    runtime: web::Data<tokio::runtime::Handle>,
}

impl App {
    /// Opens the database, starts the engine and listens.
    ///
    /// # Errors
    /// Whatever of the configuration does not work: the database, the address.
    pub async fn start(config: Config, clock: Clock) -> Result<Self> {
        let metrics = Metrics::new()?;
        let vault = credentials::vault(&config)?;
        let db = open_db(&config, &metrics).await?.exclusive()?.fill().await?.doing(Workload::Request);
        let (clock, pulse) = database::followed(&db, clock, &metrics).await;
        // the address before the engine: a second service must not begin to send before it finds the port taken
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
            tracing::warn!("sending is paused (SENDING=off or --paused) until POST /api/v1/sending/resume");
        }
        let (trigger, shutdown) = lifecycle::shutdown();
        let live = Live::new(db.is_single_node());
        let tasks_db = db.doing(Workload::Engine);
        let parts = (tasks_db.clone(), clock.clone(), metrics.clone(), live.clone());
        let guard = Arc::new(channels::guard(&config)?);
        let granted = channels::endpoints(&config)?;
        let book = Arc::new(Book::new(tasks_db.clone(), clock.clone(), live.clone(), granted));
        let mut tasks = vec![supervise("book", trigger.clone(), Arc::clone(&book).run(shutdown.clone()))];
        tasks.push(supervise("pulse", trigger.clone(), pulse.run(trigger.clone(), shutdown.clone())));
        let credentials = Arc::new(Credentials::new(db.clone(), clock.clone(), Arc::clone(&guard), vault));
        let ways = (Arc::clone(&guard), Arc::clone(&book), Arc::clone(&credentials));
        let (work, partners) = work((&config, &secrets), parts, ways, (&trigger, &shutdown)).await?;
        let observer = Observer::new(tasks_db.clone(), clock.clone(), live.clone());
        let observer = supervise("observer", trigger.clone(), observer.run(shutdown.clone()));
        let parts = (db.clone(), clock.clone(), metrics.clone(), live.clone());
        let ways = (&guard, secrets.links(&config));
        let doors = Doors::new(&config, parts, (&partners, &shutdown), ways);
        // they end when the server does, with its last handle on them
        tasks.push(supervise("intake", trigger.clone(), doors.notes.run()));
        tasks.push(supervise("events", trigger.clone(), doors.taking.run()));
        let sweep = idempotency::sweep(tasks_db.clone(), clock.clone(), shutdown.clone());
        tasks.push(supervise("sweeper", trigger.clone(), sweep));
        let sweep = inbox::usecase::sweep(tasks_db.clone(), clock.clone(), shutdown.clone());
        tasks.push(supervise("inbox sweeper", trigger.clone(), sweep));
        let sweep = preferences::usecase::sweep(tasks_db.clone(), shutdown.clone());
        tasks.push(supervise("address sweeper", trigger.clone(), sweep));
        let sweep = people::usecase::sweep(tasks_db.clone(), clock.clone(), shutdown.clone());
        tasks.push(supervise("erased clients", trigger.clone(), sweep));
        let parts = (tasks_db.clone(), clock.clone(), metrics.clone());
        let keep = dead_letters::keeper::keep(parts, config.dead_letters.keep, shutdown.clone());
        tasks.push(supervise("dead letters", trigger.clone(), keep));
        let parts = (tasks_db.clone(), clock.clone(), metrics.clone());
        tasks.push(supervise("backlog", trigger.clone(), backlog::watch(parts, shutdown.clone())));
        let told = Told {
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
            let parts = (tasks_db.clone(), clock.clone());
            let replayer = Replayer::new(parts, told.clone(), events.clone(), ways);
            tasks.push(supervise("replayer", trigger.clone(), replayer.run(shutdown.clone())));
            let parts = (tasks_db, clock.clone(), metrics.clone());
            let doors = (Arc::clone(&doors.events), events.clone());
            tasks.extend(broker::start(&config, doors, parts, (&trigger, &shutdown))?);
        }
        let waking = (wake, config.dead_letters.replay_rate);
        let dead_letters = DeadLetters::new((db.clone(), clock.clone()), told, events, waking);
        let parts = (db.clone(), clock.clone(), metrics.clone());
        let ways = (Arc::clone(&guard), Arc::clone(&partners.arrivals));
        let held = (Arc::clone(&credentials), dead_letters.clone());
        let asked = requests::Asked::new(&config, parts, ways, held);
        tasks.push(supervise("requests", trigger.clone(), asked.taking.run()));
        if let Some(timekeeper) = asked.timekeeper {
            tasks.push(supervise("timekeeper", trigger.clone(), timekeeper.run(shutdown.clone())));
        }
        let messages = Messages::new(db.clone());
        let tokens = Tokens::new(&secrets.unsubscribe);
        let preferring = Arc::new(Preferring::new(db.clone(), clock.clone(), tokens));
        let suppressions = Arc::new(suppressions);
        let people = People::new(
            (db.clone(), clock.clone()),
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
            keeping: web::Data::new(Keeping(config.idempotency.keep)),
            inbox: web::Data::new(Inbox::new((db.clone(), clock.clone(), live.clone()), &secrets.inbox)),
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
            answers: web::Data::new(AnswerMemory::new(config.http.body_memory * MIB)),
            runtime: web::Data::new(tokio::runtime::Handle::current()),
        };
        let server = serve(listener, &config, services)?;
        let handle = server.handle();
        let server = tokio::spawn(server);
        tracing::info!(%address, "fanfare listens");
        let patience = config.shutdown.timeout;
        Ok(Self { address, server, handle, work, observer, tasks, book, trigger, shutdown, db, patience })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when a task asked for the end of the process.
    pub async fn failed(&self) {
        self.shutdown.wait().await;
    }

    /// Stops taking work, finishes what is in flight, gives the rest back.
    pub async fn stop(self) {
        self.trigger.fire();
        // whatever the database does; one that has not answered for long is not waited for as long
        let words = if self.db.unwritten_for() > SILENT { SILENT / 2 } else { LAST_WORDS };
        self.db.end_by(Instant::now() + self.patience + words);
        self.handle.stop(true).await;
        let _ = self.server.await;
        let _ = self.observer.await;
        match self.work {
            Work::Here { engine, watchdog, letters } => {
                let _ = watchdog.await;
                engine.stop().await;
                let _ = letters.await;
            }
            Work::Elsewhere { announcing: (silence, announcer), listener } => {
                // after the server: what it took at last is told
                silence.fire();
                // the database may be away
                let _ = tokio::time::timeout(Duration::from_secs(1), announcer).await;
                // on its thread, which may be connecting: it must not be cut off in the middle when the process ends
                let _ = tokio::task::spawn_blocking(move || drop(listener)).await;
            }
        }
        if let Err(error) = self.book.write().await {
            tracing::warn!(%error, "what came of the last webhooks could not be written down");
        }
        for task in self.tasks {
            let _ = task.await;
        }
        self.db.release().await;
    }
}

/// Starts what the node's role asks for.
async fn work(
    (config, secrets): (&Config, &Secrets),
    (db, clock, metrics, live): (Db, Clock, Metrics, Live),
    (guard, book, keyring): (Arc<Guard>, Arc<Book>, Arc<Credentials>),
    (trigger, shutdown): (&Trigger, &Shutdown),
) -> Result<(Work, Partners)> {
    if config.node.role == Role::Api {
        let announcer = Announcer::new(db.clone(), live);
        let (silence, silenced) = lifecycle::shutdown();
        let task = supervise("announcer", trigger.clone(), Arc::clone(&announcer).run(silenced));
        let hearing = Arc::clone(&announcer);
        // nothing is looked for here, but notifications end elsewhere; who waits for one here or watches is told
        let heard = move |payload: &str| {
            hearing.hear(payload);
        };
        let listener = db.listen(heard).await?;
        let partners = Partners {
            wakeup: announcer.clone(),
            rates: Arc::new(Limits::new(config)),
            arrivals: announcer.clone(),
            switch: announcer,
            watchdog: None,
            engine: None,
            provider_states: Box::new(|_| None),
        };
        return Ok((Work::Elsewhere { announcing: (silence, task), listener }, partners));
    }
    let (letterbox, taking) = Letterbox::new((db.clone(), clock.clone(), live.clone()), config.in_app.keep);
    // ends with the engine, which holds the last handle on it
    let letters = supervise("letterbox", trigger.clone(), taking.run());
    let channels = channels::Workshop { config, clock: &clock, guard, book, letterbox, keyring }.all()?;
    let ends = (trigger.clone(), shutdown.clone());
    let parts = (db.clone(), clock.clone(), metrics.clone(), live);
    let engine = Engine::start(parts, settings(config, secrets), channels, ends).await?;
    let handle = engine.handle();
    let parts = (db, clock, metrics);
    let watchdog = Watchdog::new(parts, handle.clone(), config.delivery.poll, handle.pending());
    let (looked_at, beating, gates) = (watchdog.looked_at(), handle.clone(), handle.clone());
    let partners = Partners {
        wakeup: handle.clone(),
        rates: handle.clone(),
        arrivals: handle.clone(),
        switch: handle,
        watchdog: Some(Box::new(looked_at)),
        engine: Some(Box::new(move || beating.beat_at())),
        provider_states: Box::new(move |channel| gates.provider_state(channel)),
    };
    let watchdog = supervise("watchdog", trigger.clone(), watchdog.run(shutdown.clone()));
    Ok((Work::Here { engine, watchdog, letters }, partners))
}

/// The earliest of all lanes.
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

fn settings(config: &Config, secrets: &Secrets) -> Settings {
    Settings {
        page_size: config.delivery.page_size,
        lane_capacity: config.delivery.lane_capacity,
        record_batch: config.delivery.record_batch,
        poll: config.delivery.poll,
        claim_poll: claim_poll(config),
        retry_after_max: config.retry.after_max,
        lease: config.delivery.lease,
        shutdown: config.shutdown.timeout,
        // what cannot be read was refused when the configuration was
        quiet_zone: config.preferences.quiet_hours_timezone.parse().unwrap_or(chrono_tz::Tz::UTC),
        links: secrets.links(config),
    }
}

/// Scheduled messages and retries wait in one table, and one task looks for both: as often as the one setting or the
/// other says.
fn claim_poll(config: &Config) -> Duration {
    config.delivery.scheduler_interval.min(config.retry.interval)
}

/// The channels that nothing can be sent over, and what to set.
fn missing(config: &Config) -> HashMap<ChannelKind, String> {
    let missing = |channel: &ChannelKind| Some((*channel, config.missing_provider(*channel)?));
    ChannelKind::ALL.iter().filter_map(missing).collect()
}

/// What is against a URL that a user gives.
fn url_check(guard: Arc<Guard>) -> impl Fn(&str) -> std::result::Result<(), String> + Send + Sync {
    move |url| guard.check_url(url, Plain::WithinAllowed).map(drop).map_err(|why| why.to_string())
}

/// What notifications are granted.
fn terms(config: &Config, guard: Arc<Guard>, shutdown: &Shutdown) -> Terms {
    let retries = |kind: &ChannelKind| (*kind, channels::retries(config, *kind).single.delays().len());
    Terms {
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
            .wrap(from_fn(connection::answering))
            .configure(paths)
    };
    server::serve(listener, config.http.workers, &connections, application)
        .map_err(|e| Error::Unavailable(e.into()))
}

/// The names and the pages by which this service may be asked.
fn sites(config: &Config) -> Sites {
    let hosts: Vec<String> = config.http.hosts().map(str::to_owned).collect();
    let inboxes = config.in_app.origins().map(str::to_owned);
    Sites::new(config.http.host.is_loopback(), (&hosts, config.http.public_url.as_deref()), inboxes)
}

/// Descriptors that the database and the providers need at most.
fn reserved_descriptors(config: &Config) -> usize {
    let pools = usize::try_from(config.database.pool_size).unwrap_or_default() * 2;
    let workers = ChannelKind::ALL.iter().map(|channel| config.concurrency(*channel));
    pools + workers.sum::<usize>()
}
