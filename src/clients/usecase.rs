//! The use cases of clients.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::declared;
use super::import::MOST_ATTRIBUTES;
use super::import::{self, ImportOptions, ImportReport, Stopped};
use super::model::{Attributes, Client, ClientPatch, Field, ListFilter};
use super::repo;
use crate::clock::Clock;
use crate::db::types::ClientId;
use crate::db::{AnyConnection, Db, Workload};
use crate::error::{Complaints, Error, FieldError, Result};
use crate::idempotency::{self, Created, IdempotentResponse, Mode};
use crate::paging;

/// The largest number of concurrent imports; more are refused. Each uses a thread and a few chunks of memory.
pub const IMPORTS_AT_ONCE: usize = 4;

/// The number of clients that are scanned for the columns of a file.
const LOOKED_AT: u64 = 100_000;
/// The number of clients that one read of that scan returns.
const AT_ONCE: i64 = 1000;

/// The number of e-mail addresses or tags that are normalized in one transaction.
const ADOPTED_AT_ONCE: i64 = 1000;

/// The clients of one database; cloning it is cheap.
#[derive(Clone)]
pub struct Clients {
    db: Db,
    clock: Clock,
    imports: Arc<Semaphore>,
}

impl Clients {
    /// Creates the use cases over a database and a clock.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, imports: Arc::new(Semaphore::new(IMPORTS_AT_ONCE)) }
    }

    /// Creates a client. `answer` makes the response, which is stored under the idempotency key.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another client has the number or the external id, [`Error::Invalid`] for more
    /// attributes than a client may have.
    pub async fn create(
        &self,
        patch: ClientPatch,
        mode: Mode,
        answer: impl FnOnce(&Client) -> Result<IdempotentResponse>,
    ) -> Result<Created<Client>> {
        let patch = self.typed(patch).await?;
        let client = whole(ClientId::new(), &patch, &self.clock)?;
        let answer = answer(&client)?;
        let (now, id) = (self.clock.now(), client.id.0);
        let insert = move |c: &mut AnyConnection| {
            repo::insert(c, &client)?;
            Ok(client)
        };
        idempotency::create(&self.db, (mode, id), now, answer, insert).await
    }

    /// Returns the client with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: ClientId) -> Result<Client> {
        let found = self.db.read(move |c| repo::find(c, id)).await?;
        found.ok_or_else(|| Error::not_found("client", id))
    }

    /// Returns the matching clients after `cursor`, in the order of creation and in the form of `show`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list<V: Serialize + Send + 'static>(
        &self,
        filter: ListFilter,
        cursor: Option<ClientId>,
        limit: i64,
        show: impl Fn(Client) -> V + Send + 'static,
    ) -> Result<(Vec<V>, Option<ClientId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&ClientId>, count| repo::list(c, &filter, after.copied(), count);
            paging::page_of_views(limit, cursor, part, |client| client.id, show)
        };
        self.db.read(read).await
    }

    /// Returns the attribute names of the first `most` clients after `cursor`, for the columns of a file. Beyond
    /// [`LOOKED_AT`] clients it returns every name that any client has had.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than [`MOST_ATTRIBUTES`], and database errors.
    pub async fn columns(
        &self,
        filter: &ListFilter,
        cursor: Option<ClientId>,
        most: u64,
    ) -> Result<Vec<String>> {
        let known = self.db.read(repo::attribute_names).await?;
        // a present field may have the name of an old attribute; a file has one column of each name
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
            let (scanned, after) =
                self.list(filter.clone(), cursor, limit, |client| client.attributes).await?;
            left = left.saturating_sub(scanned.len() as u64);
            next = after.map(Some);
            let names = scanned.iter().flat_map(Attributes::iter).map(|(name, _)| name.as_str());
            for name in names.filter(|name| known.contains(*name)) {
                if !found.contains(name) {
                    found.insert(name.to_owned());
                }
            }
        }
        if found.len() > MOST_ATTRIBUTES {
            let why = format!(
                "selects clients with more than {MOST_ATTRIBUTES} different attributes, the most columns of a file"
            );
            return Err(Error::invalid("tag", why));
        }
        Ok(found.into_iter().collect())
    }

    /// Replaces a client under its id: fields that are not given are cleared.
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

    /// Applies a patch to a client.
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

    /// Stores the normal forms of e-mail addresses and tags from an earlier version, in small steps.
    ///
    /// # Errors
    /// Database errors.
    pub async fn adopt(&self) -> Result<()> {
        while self.db.write(|c| repo::fill_email_keys(c, ADOPTED_AT_ONCE)).await? > 0 {}
        while self.db.write(|c| repo::fill_tag_keys(c, ADOPTED_AT_ONCE)).await? > 0 {}
        Ok(())
    }

    /// Creates and updates clients from CSV, see [`import`]. `source` is read on a separate thread.
    ///
    /// # Errors
    /// [`Stopped`], with the rows that were committed before.
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

    /// Acquires a permit to run an import.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many are running. Waiting was rejected: the caller could not tell it from a stalled
    /// upload.
    pub fn place(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.imports).try_acquire_owned().map_err(|_| {
            let why = "imports are running already, and nothing of this one was read; send it again later";
            Error::Busy(format!("{IMPORTS_AT_ONCE} {why}"))
        })
    }
}

fn whole(id: ClientId, patch: &ClientPatch, clock: &Clock) -> Result<Client> {
    Client::create(id, patch, clock.now()).map_err(|e| Error::Invalid(vec![e]))
}
