//! The use cases of suppressions.

use super::model::{NewSuppression, Suppression, SuppressionFilter};
use super::repo;
use crate::clock::Clock;
use crate::db::types::SuppressionId;
use crate::db::{AnyConnection, Db};
use crate::error::{Error, FieldError, Result};
use crate::idempotency::{self, Claim, Created, IdempotencyKey, IdempotentResponse};
use crate::paging;

/// The number of opt-outs of an earlier version that one transaction converts.
const ADOPTED_AT_ONCE: i64 = 500;
/// The number of rows of a file that one transaction stores.
const ROWS_AT_ONCE: usize = 500;

/// The suppressions of one database.
pub struct Suppressions {
    db: Db,
    clock: Clock,
}

/// A row of a file: its line, and its suppression or its errors.
pub type FileRow = (u64, std::result::Result<NewSuppression, Vec<FieldError>>);

/// The result of an import.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The number of new suppressions.
    pub created: u64,
    /// The number of rows whose suppression existed already.
    pub known: u64,
    /// The errors of the rejected rows, with their lines.
    pub rejected: Vec<(u64, FieldError)>,
    /// The number of rejected rows.
    pub rejected_count: u64,
}

impl Suppressions {
    /// Creates the use cases over a database and a clock.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Converts opt-outs that an earlier version stored by address. It must run before any message is sent.
    ///
    /// # Errors
    /// Database errors.
    pub async fn adopt(&self) -> Result<()> {
        loop {
            let now = self.clock.now();
            let count = self.db.write(move |c| repo::adopt(c, ADOPTED_AT_ONCE, now)).await?;
            if count == 0 {
                return Ok(());
            }
            tracing::info!(count, "opt-outs of an earlier version converted to suppressions");
        }
    }

    /// Stores a suppression. `answer` makes the response; its second argument is true if the suppression is new.
    ///
    /// # Errors
    /// Database errors, and the refusal of an idempotency key.
    pub async fn create(
        &self,
        new: NewSuppression,
        key: Option<IdempotencyKey>,
        answer: impl FnOnce(&Suppression, bool) -> Result<IdempotentResponse> + Send + 'static,
    ) -> Result<Created<Suppression>> {
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

    /// Returns the suppression with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: SuppressionId) -> Result<Suppression> {
        let found = self.db.read(move |c| repo::find(c, id)).await?;
        found.ok_or_else(|| Error::not_found("suppression", id))
    }

    /// Removes a suppression: messages are sent to its address again, unless it has another suppression.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, id: SuppressionId) -> Result<()> {
        let is_gone = self.db.write(move |c| repo::delete(c, id)).await?;
        if is_gone { Ok(()) } else { Err(Error::not_found("suppression", id)) }
    }

    /// Returns the matching suppressions after `cursor`, in the order of creation.
    ///
    /// # Errors
    /// Database errors.
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

    /// Stores the valid rows of a file.
    ///
    /// # Errors
    /// Database errors. Rows that were stored before stay, and the file can be sent again.
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
