//! `/health`: the process is alive. `/ready`: it can do its work.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::operations::{Operations, operations};
use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::db::{Db, migrations};
use crate::sending;

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`: a process that is not alive does not respond.
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// The state of each part of the service.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not ready`.
    #[schema(example = "ready")]
    pub status: &'static str,
    /// True if the database responds, its migrations are applied, and a write succeeded in the last five seconds.
    pub database: bool,
    /// True if the watchdog checks for due mailings. With the role `api` it runs on other nodes, and this is always
    /// true.
    pub watchdog: bool,
    /// True if the engine has a recent heartbeat. With the role `api` it runs on other nodes, and this is always true.
    pub engine: bool,
    /// True if sending is paused for the whole installation: everything is accepted and waits. The service is still
    /// ready.
    pub sending_paused: bool,
}

/// The database is not ready after this time without a successful write; the pulse writes each second.
const UNWRITTEN: Duration = Duration::from_secs(5);

/// Returns the last heartbeat of a part of the service.
pub type Heartbeat = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// The checks behind `/ready`.
pub struct Probes {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// The watchdog's last heartbeat; none where the watchdog runs on another node.
    pub watchdog: Option<Heartbeat>,
    /// The engine's last heartbeat; none where the engine runs on another node.
    pub engine: Option<Heartbeat>,
    /// The greatest age of a heartbeat.
    pub patience: Duration,
}

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        get_health: Public,
        get_ready: Public,
    ]
}

/// Check liveness
#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "operation",
    responses((status = 200, description = "The process is alive", body = Health)))]
pub async fn get_health() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

/// Check readiness
#[utoipa::path(get, path = "/ready", operation_id = "get_ready", tag = "operation",
    responses(
        (status = 200, description = "The service is ready", body = Readiness),
        (status = 503, description = "The service is not ready: a part is false", body = Readiness),
    ))]
pub async fn get_ready(probes: web::Data<Probes>) -> HttpResponse {
    let now = probes.clock.now();
    let is_alive =
        |part: &Option<Heartbeat>| part.as_ref().is_none_or(|at| now.since(at()) <= probes.patience);
    // migrations run before the service listens: a readable table proves that they are applied
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
