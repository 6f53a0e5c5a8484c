//! What a chunk of rows makes of the clients that are there: rules only, no database.

use std::collections::HashMap;

use super::Rejection;
use super::reader::Row;
use crate::clients::model::{Client, ExternalId, Field, PhoneNumber};
use crate::db::types::{ClientId, Timestamp};
use crate::error::FieldError;

/// What is to be written, and what to say of it.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Clients that are new or differ from what is stored.
    pub(super) changed: Vec<Client>,
    /// Those among them that give up an external id, which another of them may take.
    pub(super) freed: Vec<ClientId>,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) rejected: Vec<Rejection>,
}

/// A client as the rows so far have left it.
struct Entry {
    client: Client,
    stored_external_id: Option<ExternalId>,
    changed: bool,
}

/// The clients that the chunk is about.
#[derive(Default)]
struct Book {
    entries: Vec<Entry>,
    by_number: HashMap<PhoneNumber, usize>,
    by_external_id: HashMap<ExternalId, usize>,
}

/// Applies the rows in their order, as if each came alone. `stored` has every client with a number or an external id
/// of the rows.
pub(super) fn merge(rows: &[Row], stored: Vec<Client>, now: Timestamp) -> Merged {
    let mut book = Book::default();
    for client in stored {
        let stored_external_id = client.external_id.clone();
        book.add(Entry { client, stored_external_id, changed: false });
    }
    let mut merged = Merged::default();
    for row in rows {
        match book.apply(row, now) {
            Ok(true) => merged.created += 1,
            Ok(false) => merged.updated += 1,
            Err(FieldError { field, reason }) => {
                merged.rejected.push(Rejection { line: row.line, field, reason });
            }
        }
    }
    for entry in book.entries.into_iter().filter(|entry| entry.changed) {
        if entry.stored_external_id.is_some() && entry.stored_external_id != entry.client.external_id {
            merged.freed.push(entry.client.id);
        }
        merged.changed.push(entry.client);
    }
    merged
}

impl Book {
    fn add(&mut self, entry: Entry) {
        let place = self.entries.len();
        self.by_number.insert(entry.client.phone_number, place);
        if let Some(id) = &entry.client.external_id {
            self.by_external_id.insert(id.clone(), place);
        }
        self.entries.push(entry);
    }

    /// Whether the row made a client.
    fn apply(&mut self, row: &Row, now: Timestamp) -> Result<bool, FieldError> {
        let place = self.by_number.get(&row.number).copied();
        if let Some(Some(id)) = &row.patch.external_id {
            let owner = self.by_external_id.get(id).copied();
            if owner.is_some() && owner != place {
                return Err(FieldError::new(Field::ExternalId.name(), "another client has this external_id"));
            }
        }
        let Some((place, entry)) = place.and_then(|place| Some((place, self.entries.get_mut(place)?))) else {
            let client = Client::create(ClientId::new(), row.number, &row.patch, now)?;
            self.add(Entry { client, stored_external_id: None, changed: true });
            return Ok(true);
        };
        let mut client = entry.client.clone();
        client.apply(&row.patch, entry.client.updated_at)?;
        if client != entry.client {
            client.updated_at = now;
            if client.external_id != entry.client.external_id {
                if let Some(old) = &entry.client.external_id {
                    self.by_external_id.remove(old);
                }
                if let Some(new) = &client.external_id {
                    self.by_external_id.insert(new.clone(), place);
                }
            }
            entry.client = client;
            entry.changed = true;
        }
        Ok(false)
    }
}
