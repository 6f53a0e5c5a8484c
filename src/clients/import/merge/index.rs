//! Indexes of a chunk's clients by the fields that identify them.

use std::collections::HashMap;

use super::super::row::FileRow;
use crate::clients::model::{Client, ExternalId, Field};
use crate::error::FieldError;

/// The indexes of clients by their external ids.
#[derive(Default)]
pub(super) struct ByExternalId(HashMap<ExternalId, usize>);

impl ByExternalId {
    /// Returns the index of the client with this id.
    pub(super) fn place(&self, id: &ExternalId) -> Option<usize> {
        self.0.get(id).copied()
    }

    /// Refuses a row whose external id belongs to another client than the one at `place`.
    pub(super) fn check(&self, row: &FileRow, place: Option<usize>) -> Result<(), FieldError> {
        let owner = row.external_id().and_then(|id| self.place(id));
        if owner.is_some() && owner != place {
            return Err(FieldError::new(Field::ExternalId.name(), "another client has this external_id"));
        }
        Ok(())
    }

    /// Updates the index for the client at `place`. `before` is its previous version, if it has one.
    pub(super) fn note(&mut self, before: Option<&Client>, after: &Client, place: usize) {
        let old = before.and_then(|client| client.external_id.as_ref());
        if old == after.external_id.as_ref() {
            return;
        }
        if let Some(old) = old {
            self.0.remove(old);
        }
        if let Some(new) = &after.external_id {
            self.0.insert(new.clone(), place);
        }
    }
}

/// The indexes of clients by the normal forms of their e-mail addresses, which several clients may share.
#[derive(Default)]
pub(super) struct ByEmail(HashMap<String, Vec<usize>>);

impl ByEmail {
    /// Returns the index of the client with the row's address.
    ///
    /// # Errors
    /// Several clients share the address, so it does not identify one.
    pub(super) fn find(&self, row: &FileRow) -> Result<Option<usize>, FieldError> {
        let places = row.email().and_then(|email| self.0.get(&email.key())).map(Vec::as_slice);
        match places {
            None | Some([]) => Ok(None),
            Some([place]) => Ok(Some(*place)),
            Some(_) => {
                let why = "several clients have this address; match by another field";
                Err(FieldError::new(Field::Email.name(), why))
            }
        }
    }

    /// Updates the index for the client at `place`. `before` is its previous version, if it has one.
    pub(super) fn note(&mut self, before: Option<&Client>, after: &Client, place: usize) {
        let old = before.and_then(|client| client.email.as_ref());
        if old == after.email.as_ref() {
            return;
        }
        if let Some(places) = old.and_then(|old| self.0.get_mut(&old.key())) {
            places.retain(|other| *other != place);
        }
        if let Some(new) = &after.email {
            self.0.entry(new.key()).or_default().push(place);
        }
    }
}
