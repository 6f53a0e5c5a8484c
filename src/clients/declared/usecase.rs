//! The use cases of declared attributes.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::Notify;

use super::converter::Converter;
use super::model::{Conversion, DeclaredAttribute, LONGEST_LABEL};
use super::repo;
use crate::clients::model::AttributeName;
use crate::clock::Clock;
use crate::db::types::ResourceId;
use crate::db::{AnyConnection, Db};
use crate::error::{Complaints, Error, Result};
use crate::idempotency::{self, Created, IdempotentResponse, Mode};
use crate::kinds::AttributeKind;
use crate::paging;

/// The declared attributes of one database.
pub struct DeclaredAttributes {
    db: Db,
    clock: Clock,
    wake: Arc<Notify>,
}

/// The changes of a request: an absent value stays, and `Some(None)` clears the label.
#[derive(Debug, Default)]
pub struct Changes {
    /// The type.
    pub kind: Option<String>,
    /// A label for people.
    pub label: Option<Option<String>>,
}

impl DeclaredAttributes {
    /// Creates the use cases over a database, and their converter, which the caller must run.
    pub fn new(db: Db, clock: Clock) -> (Self, Converter) {
        let wake = Arc::new(Notify::new());
        let converter = Converter::new(db.clone(), clock.clone(), Arc::clone(&wake));
        (Self { db, clock, wake }, converter)
    }

    /// Declares an attribute, and starts the conversion of existing values.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field, [`Error::Conflict`] for a name that is already declared.
    pub async fn declare(
        &self,
        name: &str,
        changes: Changes,
        mode: Mode,
        answer: impl FnOnce(&DeclaredAttribute) -> Result<IdempotentResponse>,
    ) -> Result<Created<DeclaredAttribute>> {
        let mut wrong = Complaints::default();
        let name = wrong.check("name", name.parse::<AttributeName>());
        let (kind, label) = check(changes, &mut wrong);
        wrong.finish()?;
        let missing = |field| Error::invalid(field, "is missing");
        let now = self.clock.now();
        let attribute = DeclaredAttribute {
            name: name.ok_or_else(|| missing("name"))?,
            kind: kind.ok_or_else(|| missing("type"))?,
            label: label.flatten(),
            conversion: Conversion { is_running: true, ..Conversion::default() },
            created_at: now,
            updated_at: now,
        };
        let answer = answer(&attribute)?;
        let insert = move |c: &mut AnyConnection| {
            repo::insert(c, &attribute)?;
            Ok(attribute)
        };
        let made = idempotency::create(&self.db, (mode, ResourceId::new().0), now, answer, insert).await?;
        self.wake.notify_one();
        Ok(made)
    }

    /// Returns the declaration of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, name: String) -> Result<DeclaredAttribute> {
        let wanted = name.clone();
        let found = self.db.read(move |c| repo::find(c, &wanted)).await?;
        found.ok_or_else(|| Error::not_found("declared attribute", name))
    }

    /// Returns the declarations after `cursor`, by name and in the form of `show`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list<V: Serialize + Send + 'static>(
        &self,
        cursor: Option<AttributeName>,
        limit: i64,
        show: impl Fn(DeclaredAttribute) -> V + Send + 'static,
    ) -> Result<(Vec<V>, Option<AttributeName>)> {
        let read = move |c: &mut AnyConnection| {
            let part =
                |after: Option<&AttributeName>, count| repo::list(c, after.map(AttributeName::as_str), count);
            paging::page_of_views(limit, cursor, part, |one| one.name.clone(), show)
        };
        self.db.read(read).await
    }

    /// Changes a declaration. A different type starts the conversion again.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Invalid`] with every invalid field.
    pub async fn patch(&self, name: String, changes: Changes) -> Result<DeclaredAttribute> {
        let mut wrong = Complaints::default();
        let (kind, label) = check(changes, &mut wrong);
        wrong.finish()?;
        let now = self.clock.now();
        let change = move |c: &mut AnyConnection| {
            let Some(known) = repo::find_for_update(c, &name)? else {
                return Err(Error::not_found("declared attribute", name));
            };
            let kind = kind.unwrap_or(known.kind);
            let is_another = kind != known.kind;
            let begun = Conversion { is_running: true, ..Conversion::default() };
            let attribute = DeclaredAttribute {
                kind,
                label: label.unwrap_or(known.label),
                conversion: if is_another { begun } else { known.conversion },
                updated_at: now,
                ..known
            };
            repo::change(c, &attribute, is_another)?;
            Ok(attribute)
        };
        let changed = self.db.write(change).await?;
        self.wake.notify_one();
        Ok(changed)
    }

    /// Deletes the declaration. Existing values stay as they are.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, name: String) -> Result<()> {
        let gone = name.clone();
        if self.db.write(move |c| repo::delete(c, &gone)).await? {
            Ok(())
        } else {
            Err(Error::not_found("declared attribute", name))
        }
    }
}

type Checked = (Option<AttributeKind>, Option<Option<String>>);

fn check(changes: Changes, wrong: &mut Complaints) -> Checked {
    let kind = changes.kind.and_then(|word| wrong.check("type", word.parse::<AttributeKind>()));
    if let Some(Some(label)) = &changes.label
        && (label.trim().is_empty()
            || label.chars().any(char::is_control)
            || label.chars().nth(LONGEST_LABEL).is_some())
    {
        wrong.add("label", "must be 1 to 100 characters, no control characters among them");
    }
    (kind, changes.label)
}
