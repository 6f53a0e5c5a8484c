//! Wires the people who receive messages: clients and their imports, preferences, suppressions, erasure.

use std::path::PathBuf;
use std::sync::Arc;

use actix_web::web;

use super::messaging::Messaging;
use super::wiring::Wiring;
use crate::clients::Clients;
use crate::clients::declared::usecase::DeclaredAttributes;
use crate::clients::jobs::usecase::{Imports, Spool};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::inbox::Inbox;
use crate::inbox::handler::auth::Origins;
use crate::messages::Messages;
use crate::people::People;
use crate::preferences::PreferenceService;
use crate::preferences::handler::unsubscribe::Brand;
use crate::preferences::link::UnsubscribeTokens;
use crate::runtime::Runtime;
use crate::suppressions::Suppressions;

const MIB: u64 = 1024 * 1024;

/// Clients and suppressions, with all addresses in their normal form.
pub(super) struct Addresses {
    clients: Clients,
    suppressions: Arc<Suppressions>,
}

impl Addresses {
    /// Brings the addresses of an earlier version into their normal form, before anything is sent.
    ///
    /// # Errors
    /// Database errors.
    pub(super) async fn adopt(runtime: &Runtime) -> Result<Self> {
        let suppressions = Suppressions::new(runtime.db.clone(), runtime.clock.clone());
        suppressions.adopt().await?;
        let clients = Clients::new(runtime.db.clone(), runtime.clock.clone());
        clients.adopt().await?;
        Ok(Self { clients, suppressions: Arc::new(suppressions) })
    }
}

/// Starts imports and the conversion of attributes, and adds the services.
///
/// # Errors
/// [`Error::Invalid`] if no file can be created in the configured folder for imports.
pub(super) fn start(wiring: &mut Wiring, addresses: Addresses, messaging: &Messaging) -> Result<()> {
    let Addresses { clients, suppressions } = addresses;
    let runtime = wiring.runtime.clone();
    let (db, clock, shutdown) = (runtime.db.clone(), runtime.clock.clone(), wiring.shutdown.clone());
    let config = &wiring.config;
    let spool = (spool(config)?, config.delivery.lease);
    let live = Arc::new(runtime.live.clone());
    let (imports, runner) = Imports::new((db.clone(), clock.clone()), clients.clone(), live, spool);
    let (declared, converter) = DeclaredAttributes::new(db.clone(), clock.clone());
    let tokens = UnsubscribeTokens::new(&wiring.secrets.unsubscribe);
    let preferences = Arc::new(PreferenceService::new(db.clone(), clock, tokens));
    let messages = Messages::new(db);
    let people = People::new(
        runtime.clone(),
        (clients.clone(), messages.clone()),
        (Arc::clone(&messaging.notifications), Arc::clone(&messaging.events)),
        (Arc::clone(&preferences), Arc::clone(&suppressions)),
    );
    let services = &mut wiring.services;
    services.add(web::Data::new(clients));
    services.add(web::Data::new(imports));
    services.add(web::Data::new(declared));
    services.add(web::Data::new(messages));
    services.add(web::Data::from(preferences));
    services.add(web::Data::from(suppressions));
    services.add(web::Data::new(people));
    services.add(web::Data::new(Brand(config.preferences.brand_name.clone())));
    services.add(web::Data::new(Inbox::new(runtime, &wiring.secrets.inbox)));
    services.add(web::Data::new(Origins(config.in_app.origins().map(str::to_owned).collect())));
    wiring.supervise("imports", runner.run(shutdown.clone()));
    wiring.supervise("converter", converter.run(shutdown));
    Ok(())
}

fn spool(config: &Config) -> Result<Spool> {
    let most = config.clients.import_max_size * MIB;
    let Some(dir) = &config.clients.import_dir else { return Ok(Spool { dir: std::env::temp_dir(), most }) };
    tempfile::tempfile_in(dir).map_err(|e| {
        Error::invalid("clients.import_dir (IMPORT_DIR)", format!("cannot create a file: {e}"))
    })?;
    Ok(Spool { dir: PathBuf::from(dir), most })
}
