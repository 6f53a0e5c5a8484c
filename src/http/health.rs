//! `/health`: the process is alive. `/ready`: it can do its work.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::db::{Db, migrations};
use crate::sending;

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`: a process that is not does not answer.
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// Whether each part does its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not ready`.
    #[schema(example = "ready")]
    pub status: &'static str,
    /// The database answers, its migrations are done, and it could be written to in the last five seconds.
    pub database: bool,
    /// The watchdog looks for mailings that are due, here or (role `api`) elsewhere.
    pub watchdog: bool,
    /// The engine shows that it is alive; with the role `api` it is elsewhere.
    pub engine: bool,
    /// All sending is paused, for the whole installation: everything is accepted and waits. The service is ready even so.
    pub sending_paused: bool,
}

/// For so long nothing can be written before the database is not ready: it is written to each second.
const UNWRITTEN: Duration = Duration::from_secs(5);

/// When a part showed last that it is alive.
pub type SignOfLife = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// What readiness is judged by.
pub struct Probes {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// The watchdog's last sign of life; none where another node's does the work.
    pub watchdog: Option<SignOfLife>,
    /// The engine's.
    pub engine: Option<SignOfLife>,
    /// How old a sign of life may be.
    pub patience: Duration,
}

/// Is the process alive?
#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "operation", security(()),
    responses((status = 200, description = "It is alive", body = Health)))]
pub async fn get_health() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

/// Can the service do its work?
#[utoipa::path(get, path = "/ready", operation_id = "get_ready", tag = "operation", security(()),
    responses(
        (status = 200, description = "It can", body = Readiness),
        (status = 503, description = "It cannot: the part that is false", body = Readiness),
    ))]
pub async fn get_ready(probes: web::Data<Probes>) -> HttpResponse {
    let now = probes.clock.now();
    let is_alive =
        |part: &Option<SignOfLife>| part.as_ref().is_none_or(|at| now.since(at()) <= probes.patience);
    // migrations run before the service listens: a table that can be read is the proof
    let database = if probes.db.unwritten_for() <= UNWRITTEN {
        probes.db.read(|c| migrations::are_done(c).and_then(|()| sending::repo::paused_at(c))).await.ok()
    } else {
        None
    };
    let (database, sending_paused) = (database.is_some(), database.flatten().is_some());
    let (watchdog, engine) = (is_alive(&probes.watchdog), is_alive(&probes.engine));
    let ready = database && watchdog && engine;
    let body = Readiness {
        status: if ready { "ready" } else { "not ready" },
        database,
        watchdog,
        engine,
        sending_paused,
    };
    if ready { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}
