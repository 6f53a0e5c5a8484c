//! What can be done with clients.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::declared;
use super::import::MOST_ATTRIBUTES;
use super::import::{self, ImportOptions, ImportReport, Stopped};
use super::model::{Client, ClientPatch, Field, ListFilter};
use super::repo;
use crate::clock::Clock;
use crate::db::types::ClientId;
use crate::db::{AnyConnection, Db, Workload};
use crate::error::{Complaints, Error, FieldError, Result};
use crate::idempotency::{self, Answer, Made, Mode};
use crate::paging;

/// Imports at once; further ones are refused. Each has a thread and a few chunks in memory.
pub const IMPORTS_AT_ONCE: usize = 4;

/// Clients that are looked at for the columns of a file.
const LOOKED_AT: u64 = 100_000;
/// Clients that are read at once for that.
const AT_ONCE: i64 = 1000;

/// E-mail addresses that are adopted in one transaction.
const ADOPTED_AT_ONCE: i64 = 1000;

/// The clients of one database; cloning it is cheap.
#[derive(Clone)]
pub struct Clients {
    db: Db,
    clock: Clock,
    imports: Arc<Semaphore>,
}

impl Clients {
    /// Over this database, by this clock.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, imports: Arc::new(Semaphore::new(IMPORTS_AT_ONCE)) }
    }

    /// Makes a client. `answer` says what the request is answered, and another one under the same key.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another client has the number or the external id, [`Error::Invalid`] for more
    /// attributes than a client may have.
    pub async fn create(
        &self,
        patch: ClientPatch,
        mode: Mode,
        answer: impl FnOnce(&Client) -> Result<Answer>,
    ) -> Result<Made<Client>> {
        let patch = self.typed(patch).await?;
        let client = whole(ClientId::new(), &patch, &self.clock)?;
        let answer = answer(&client)?;
        let (now, id) = (self.clock.now(), client.id.0);
        let insert = move |c: &mut AnyConnection| {
            repo::insert(c, &client)?;
            Ok(client)
        };
        idempotency::make(&self.db, (mode, id), now, answer, insert).await
    }

    /// The client with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: ClientId) -> Result<Client> {
        let found = self.db.read(move |c| repo::find(c, id)).await?;
        found.ok_or_else(|| Error::not_found("client", id))
    }

    /// The clients after `cursor` that match, in the order of their making.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        filter: ListFilter,
        cursor: Option<ClientId>,
        limit: i64,
    ) -> Result<(Vec<Client>, Option<ClientId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&ClientId>, count| repo::list(c, &filter, after.copied(), count);
            paging::page_of(limit, cursor, part, |client| client.id)
        };
        self.db.read(read).await
    }

    /// The names of the attributes that the clients after `cursor` have, for the columns of a file with the first `most`
    /// of them. Beyond [`LOOKED_AT`] clients every name counts that any client has had.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than [`MOST_ATTRIBUTES`], and those of the database.
    pub async fn columns(
        &self,
        filter: &ListFilter,
        cursor: Option<ClientId>,
        most: u64,
    ) -> Result<Vec<String>> {
        let known = self.db.read(repo::attribute_names).await?;
        // a field of today may be an attribute of old; a file has one column of a name
        let known: BTreeSet<String> = known.into_iter().filter(|name| !Field::is_taken(name)).collect();
        let (mut found, mut next, mut left) = (BTreeSet::new(), Some(cursor), most);
        while found.len() < known.len()
            && left > 0
            && let Some(cursor) = next
        {
            if most - left >= LOOKED_AT {
                found.clone_from(&known);
                break;
            }
            let limit = i64::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE);
            let (clients, after) = self.list(filter.clone(), cursor, limit).await?;
            left = left.saturating_sub(clients.len() as u64);
            next = after.map(Some);
            let names =
                clients.iter().flat_map(|client| client.attributes.iter()).map(|(name, _)| name.as_str());
            for name in names.filter(|name| known.contains(*name)) {
                if !found.contains(name) {
                    found.insert(name.to_owned());
                }
            }
        }
        if found.len() > MOST_ATTRIBUTES {
            let why = format!(
                "lets through clients with more than {MOST_ATTRIBUTES} different attributes; a file has no more columns"
            );
            return Err(Error::invalid("tag", why));
        }
        Ok(found.into_iter().collect())
    }

    /// Makes the client anew under its id: what is not given is gone.
    ///
    /// # Errors
    /// [`Error::NotFound`], and those of [`Clients::create`].
    pub async fn replace(&self, id: ClientId, patch: ClientPatch) -> Result<Client> {
        let patch = self.typed(patch).await?;
        let mut client = whole(id, &patch, &self.clock)?;
        self.db
            .write(move |c| {
                let stored = repo::find_for_update(c, id)?.ok_or_else(|| Error::not_found("client", id))?;
                client.created_at = stored.created_at;
                repo::update(c, &client)?;
                Ok(client)
            })
            .await
    }

    /// Changes what the patch names.
    ///
    /// # Errors
    /// [`Error::NotFound`], and those of [`Clients::create`].
    pub async fn patch(&self, id: ClientId, patch: ClientPatch) -> Result<Client> {
        let patch = self.typed(patch).await?;
        let now = self.clock.now();
        self.db
            .write(move |c| {
                let mut client =
                    repo::find_for_update(c, id)?.ok_or_else(|| Error::not_found("client", id))?;
                client.apply(&patch, now).map_err(|e| Error::Invalid(vec![e]))?;
                repo::update(c, &client)?;
                Ok(client)
            })
            .await
    }

    /// Makes the normal forms of e-mail addresses and tags that an earlier version stored, in small steps.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn adopt(&self) -> Result<()> {
        while self.db.write(|c| repo::fill_email_keys(c, ADOPTED_AT_ONCE)).await? > 0 {}
        while self.db.write(|c| repo::fill_tag_keys(c, ADOPTED_AT_ONCE)).await? > 0 {}
        Ok(())
    }

    /// Creates and updates clients from CSV, see [`import`]. `source` is read on a thread of its own.
    ///
    /// # Errors
    /// [`Stopped`], with what was committed before.
    pub async fn import(
        &self,
        source: impl Read + Send + 'static,
        options: ImportOptions,
    ) -> Result<ImportReport, Stopped> {
        let _place = self.place().map_err(Stopped::at_once)?;
        import::import(&self.db.doing(Workload::Import), &self.clock, source, options, |_| ()).await
    }

    /// Converts the values of declared attributes to their types.
    async fn typed(&self, mut patch: ClientPatch) -> Result<ClientPatch> {
        if patch.attributes.is_empty() {
            return Ok(patch);
        }
        let names: Vec<_> = patch.attributes.iter().map(|(name, _)| name.clone()).collect();
        let types = self.db.read(move |c| declared::repo::types(c, names.iter())).await?;
        let mut wrong = Complaints::default();
        for FieldError { field, reason } in types.apply(&mut patch) {
            wrong.add(format!("attributes.{field}"), reason);
        }
        wrong.finish().map(|()| patch)
    }

    /// Takes a place among the imports that run at once.
    ///
    /// # Errors
    /// [`Error::Busy`] when there is none: a caller that waited in silence would not know whether anything happens.
    pub fn place(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.imports).try_acquire_owned().map_err(|_| {
            let why = "imports run already, and nothing of this one was read; send it again later";
            Error::Busy(format!("{IMPORTS_AT_ONCE} {why}"))
        })
    }
}

fn whole(id: ClientId, patch: &ClientPatch, clock: &Clock) -> Result<Client> {
    Client::create(id, patch, clock.now()).map_err(|e| Error::Invalid(vec![e]))
}
