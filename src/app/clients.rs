//! Wires the services of clients: single clients, imports, and declared attributes.

use std::path::PathBuf;
use std::sync::Arc;

use actix_web::web;
use tokio::task::JoinHandle;

use super::MIB;
use crate::clients::Clients;
use crate::clients::declared::usecase::DeclaredAttributes;
use crate::clients::jobs::usecase::{Imports, Spool};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::lifecycle::{Shutdown, ShutdownTrigger, supervise};
use crate::live::Live;

/// The services that the handlers of clients use.
#[derive(Clone)]
pub(super) struct ClientServices {
    clients: web::Data<Clients>,
    imports: web::Data<Imports>,
    declared: web::Data<DeclaredAttributes>,
}

impl ClientServices {
    /// Starts the tasks of the services, and returns both.
    ///
    /// # Errors
    /// [`Error::Invalid`] if no file can be created in the configured folder for imports.
    pub(super) fn start(
        clients: Clients,
        config: &Config,
        (db, clock): (&Db, &Clock),
        live: &Live,
        (trigger, shutdown): (&ShutdownTrigger, &Shutdown),
    ) -> Result<(Self, [JoinHandle<()>; 2])> {
        let parts = (db.clone(), clock.clone());
        let spool = (spool(config)?, config.delivery.lease);
        let (imports, runner) = Imports::new(parts, clients.clone(), Arc::new(live.clone()), spool);
        let (declared, converter) = DeclaredAttributes::new(db.clone(), clock.clone());
        let tasks = [
            supervise("imports", trigger.clone(), runner.run(shutdown.clone())),
            supervise("converter", trigger.clone(), converter.run(shutdown.clone())),
        ];
        let (clients, imports) = (web::Data::new(clients), web::Data::new(imports));
        Ok((Self { clients, imports, declared: web::Data::new(declared) }, tasks))
    }

    /// Registers the services for the handlers.
    pub(super) fn give(&self, cfg: &mut web::ServiceConfig) {
        cfg.app_data(self.clients.clone()).app_data(self.imports.clone()).app_data(self.declared.clone());
    }
}

fn spool(config: &Config) -> Result<Spool> {
    let most = config.clients.import_max_size * MIB as u64;
    let Some(dir) = &config.clients.import_dir else { return Ok(Spool { dir: std::env::temp_dir(), most }) };
    tempfile::tempfile_in(dir).map_err(|e| {
        Error::invalid("clients.import_dir (IMPORT_DIR)", format!("cannot create a file: {e}"))
    })?;
    Ok(Spool { dir: PathBuf::from(dir), most })
}
