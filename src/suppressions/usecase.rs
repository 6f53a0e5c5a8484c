//! The use cases of suppressions.

use super::model::{NewSuppression, Suppression, SuppressionFilter};
use super::repo;
use crate::clock::Clock;
use crate::db::types::SuppressionId;
use crate::db::{AnyConnection, Db};
use crate::error::{Error, FieldError, Result};
use crate::idempotency::{self, Answer, Claim, Key, Made};
use crate::paging;

/// Opt-outs of an earlier version that are taken over in one transaction.
const ADOPTED_AT_ONCE: i64 = 500;
/// Rows of a file that are stored in one transaction.
const ROWS_AT_ONCE: usize = 500;

/// The suppressions of one database.
pub struct Suppressions {
    db: Db,
    clock: Clock,
}

/// A row of a file: what it asks for, or what is wrong with it.
pub type FileRow = (u64, std::result::Result<NewSuppression, Vec<FieldError>>);

/// The outcome of an import, by its rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Suppressions that are new.
    pub created: u64,
    /// Rows whose suppression was there already.
    pub known: u64,
    /// Complaints about the others, by their lines.
    pub rejected: Vec<(u64, FieldError)>,
    /// How many were rejected.
    pub rejected_count: u64,
}

impl Suppressions {
    /// Over this database, by this clock.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Takes over opt-outs that an earlier version stored by address. Before anything is sent.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn adopt(&self) -> Result<()> {
        loop {
            let now = self.clock.now();
            let count = self.db.write(move |c| repo::adopt(c, ADOPTED_AT_ONCE, now)).await?;
            if count == 0 {
                return Ok(());
            }
            tracing::info!(count, "opt-outs of an earlier version became suppressions");
        }
    }

    /// Stores a suppression. `answer` says what the request is answered, told whether it is new.
    ///
    /// # Errors
    /// Those of the database, and those of idempotency keys.
    pub async fn create(
        &self,
        new: NewSuppression,
        key: Option<Key>,
        answer: impl FnOnce(&Suppression, bool) -> Result<Answer> + Send + 'static,
    ) -> Result<Made<Suppression>> {
        let now = self.clock.now();
        let create = move |c: &mut AnyConnection| {
            let (stored, is_new) = repo::store(c, &[new], now)?
                .pop()
                .ok_or_else(|| Error::internal("a suppression was stored without a result"))?;
            let answer = answer(&stored, is_new)?;
            let claim = Claim::of(key, stored.id.0, &answer);
            idempotency::once(c, claim.as_ref(), now, answer, |_| Ok(stored))
        };
        self.db.write(create).await
    }

    /// The suppression with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: SuppressionId) -> Result<Suppression> {
        let found = self.db.read(move |c| repo::find(c, id)).await?;
        found.ok_or_else(|| Error::not_found("suppression", id))
    }

    /// Removes a suppression: from now on its address is written to again, unless another one stands against it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, id: SuppressionId) -> Result<()> {
        let is_gone = self.db.write(move |c| repo::delete(c, id)).await?;
        if is_gone { Ok(()) } else { Err(Error::not_found("suppression", id)) }
    }

    /// The suppressions after `cursor` that match, in the order of their making.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        filter: SuppressionFilter,
        cursor: Option<SuppressionId>,
        limit: i64,
    ) -> Result<(Vec<Suppression>, Option<SuppressionId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&SuppressionId>, count| repo::list(c, &filter, after.copied(), count);
            paging::page_of(limit, cursor, part, |one| one.id)
        };
        self.db.read(read).await
    }

    /// Stores the rows of a file, those that are right.
    ///
    /// # Errors
    /// Those of the database; what was stored before stays, and the file can be sent again.
    pub async fn import(&self, rows: Vec<FileRow>) -> Result<Imported> {
        let mut imported = Imported::default();
        let mut right = Vec::new();
        for (line, row) in rows {
            match row {
                Ok(new) => right.push(new),
                Err(fields) => {
                    imported.rejected_count += 1;
                    imported.rejected.extend(fields.into_iter().map(|field| (line, field)));
                }
            }
        }
        while !right.is_empty() {
            let rest = right.split_off(right.len().min(ROWS_AT_ONCE));
            let now = self.clock.now();
            let stored = self.db.write(move |c| repo::store(c, &right, now)).await?;
            for (_, is_new) in stored {
                *(if is_new { &mut imported.created } else { &mut imported.known }) += 1;
            }
            right = rest;
        }
        Ok(imported)
    }
}
