//! The clients of a chunk by what rows know them by.

use std::collections::HashMap;

use super::super::row::Row;
use crate::clients::model::{Client, ExternalId, Field};
use crate::error::FieldError;

/// Places of clients by their external ids.
#[derive(Default)]
pub(super) struct ByExternalId(HashMap<ExternalId, usize>);

impl ByExternalId {
    /// The place of this id's client.
    pub(super) fn place(&self, id: &ExternalId) -> Option<usize> {
        self.0.get(id).copied()
    }

    /// Refuses an id that another client has than the one at `place`.
    pub(super) fn check(&self, row: &Row, place: Option<usize>) -> Result<(), FieldError> {
        let owner = row.external_id().and_then(|id| self.place(id));
        if owner.is_some() && owner != place {
            return Err(FieldError::new(Field::ExternalId.name(), "another client has this external_id"));
        }
        Ok(())
    }

    /// Notes the client at `place`, which was `before` if it was there.
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

/// Places of clients by the normal forms of their e-mail addresses, which several may share.
#[derive(Default)]
pub(super) struct ByEmail(HashMap<String, Vec<usize>>);

impl ByEmail {
    /// The place of the client that has the row's address.
    ///
    /// # Errors
    /// An address of several clients: it does not say whose row it is.
    pub(super) fn find(&self, row: &Row) -> Result<Option<usize>, FieldError> {
        let places = row.email().and_then(|email| self.0.get(&email.key())).map(Vec::as_slice);
        match places {
            None | Some([]) => Ok(None),
            Some([place]) => Ok(Some(*place)),
            Some(_) => {
                let why = "several clients have this address: match by something else";
                Err(FieldError::new(Field::Email.name(), why))
            }
        }
    }

    /// Notes the client at `place`, which was `before` if it was there.
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
