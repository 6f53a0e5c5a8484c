//! The parts that clients go through: one by one, as files, and the types of their attributes.

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
use crate::lifecycle::{Shutdown, Trigger, supervise};
use crate::live::Live;

/// The services that the handlers of clients are given.
#[derive(Clone)]
pub(super) struct ClientServices {
    clients: web::Data<Clients>,
    imports: web::Data<Imports>,
    declared: web::Data<DeclaredAttributes>,
}

impl ClientServices {
    /// Starts the tasks that they need, and returns them.
    ///
    /// # Errors
    /// A folder for imports that was configured and takes no file.
    pub(super) fn start(
        clients: Clients,
        config: &Config,
        (db, clock): (&Db, &Clock),
        live: &Live,
        (trigger, shutdown): (&Trigger, &Shutdown),
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

    /// Gives them to the handlers.
    pub(super) fn give(&self, cfg: &mut web::ServiceConfig) {
        cfg.app_data(self.clients.clone()).app_data(self.imports.clone()).app_data(self.declared.clone());
    }
}

fn spool(config: &Config) -> Result<Spool> {
    let most = config.clients.import_max_size * MIB as u64;
    let Some(dir) = &config.clients.import_dir else { return Ok(Spool { dir: std::env::temp_dir(), most }) };
    tempfile::tempfile_in(dir)
        .map_err(|e| Error::invalid("clients.import_dir (IMPORT_DIR)", format!("takes no file: {e}")))?;
    Ok(Spool { dir: PathBuf::from(dir), most })
}
