//! What a chunk of rows makes of the clients that are there: rules only, no database.

mod keyed;

use std::collections::HashMap;

pub(super) use self::keyed::merge_by_key;
use super::Rejection;
use super::report::{PreviewRow, Warning};
use super::row::Row;
use crate::clients::model::{Client, ExternalId, Field, PhoneNumber};
use crate::db::types::{ClientId, Timestamp};
use crate::error::FieldError;

/// What is to be written, and what to say of it.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Clients that are new.
    pub(super) new: Vec<Client>,
    /// Clients that differ from what is stored.
    pub(super) changed: Vec<Client>,
    /// Those among them that give up an external id, which another of them may take.
    pub(super) freed: Vec<ClientId>,
    /// Those among them that give up a phone number, likewise.
    pub(super) moved: Vec<ClientId>,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) rejected: Vec<Rejection>,
    /// Rows that want what another client has, who may give it up further down in the file.
    pub(super) deferred: Vec<Deferred>,
    /// The first rows with their clients.
    pub(super) preview: Vec<PreviewRow>,
    /// Values that were left out because they do not fit the type of their attribute.
    pub(super) unfit: Vec<Warning>,
}

/// A row that can be tried again, and what to say of it if it cannot.
#[derive(Debug, Clone)]
pub(super) struct Deferred {
    pub(super) row: Row,
    pub(super) rejection: Rejection,
}

/// A client as the rows so far have left it.
struct Entry {
    client: Client,
    origin: Origin,
    changed: bool,
}

enum Origin {
    Row,
    /// With the external id that it has there.
    Database(Option<ExternalId>),
}

/// The effect of a row.
pub(super) struct Applied {
    /// Where its client is.
    pub(super) place: usize,
    pub(super) is_new: bool,
}

/// An address does not say whose row it is.
const SEVERAL: &str = "several clients have this address: match by something else";

/// The clients that the chunk is about.
#[derive(Default)]
struct Book {
    entries: Vec<Entry>,
    by_number: HashMap<PhoneNumber, usize>,
    by_external_id: HashMap<ExternalId, usize>,
    /// By the normal form, where rows without a number are; none where several clients have the address.
    by_email: Option<HashMap<String, Option<usize>>>,
}

/// Applies the rows in their order, as if each came alone. `stored` has every client with a number or an external id
/// of the rows, and with the address of one that has neither.
pub(super) fn merge(rows: &[Row], stored: Vec<Client>, now: Timestamp, previewed: usize) -> Merged {
    let has_unnumbered = rows.iter().any(|row| row.number.is_none());
    let mut book = Book { by_email: has_unnumbered.then(HashMap::new), ..Book::default() };
    for client in stored {
        let origin = Origin::Database(client.external_id.clone());
        let changed = false;
        book.add(Entry { client, origin, changed });
    }
    let mut merged = Merged::default();
    let mut shown = Vec::new();
    for row in rows {
        match book.apply(row, now) {
            Ok(Applied { place, is_new }) => {
                merged.created += u64::from(is_new);
                merged.updated += u64::from(!is_new);
                if shown.len() < previewed {
                    shown.push((row.line, place));
                }
            }
            Err(FieldError { field, reason }) => {
                merged.rejected.push(Rejection { line: row.line, field, reason });
            }
        }
    }
    let client = |(line, place): (u64, usize)| {
        Some(PreviewRow { line, client: book.entries.get(place)?.client.clone() })
    };
    merged.preview = shown.into_iter().filter_map(client).collect();
    for Entry { client, origin, changed } in book.entries {
        match origin {
            Origin::Row => merged.new.push(client),
            Origin::Database(external_id) if changed => {
                if external_id.is_some() && external_id != client.external_id {
                    merged.freed.push(client.id);
                }
                merged.changed.push(client);
            }
            Origin::Database(_) => {}
        }
    }
    merged
}

impl Book {
    fn add(&mut self, entry: Entry) {
        let place = self.entries.len();
        if let Some(number) = entry.client.phone_number {
            self.by_number.insert(number, place);
        }
        if let Some(id) = &entry.client.external_id {
            self.by_external_id.insert(id.clone(), place);
        }
        if let (Some(by_email), Some(email)) = (&mut self.by_email, &entry.client.email) {
            by_email.entry(email.key()).and_modify(|known| *known = None).or_insert(Some(place));
        }
        self.entries.push(entry);
    }

    /// Finds the client of a row without a number: by its external id, else by its address.
    fn unnumbered(&self, row: &Row) -> Result<Option<usize>, FieldError> {
        if let Some(Some(id)) = &row.patch.external_id {
            return Ok(self.by_external_id.get(id).copied());
        }
        let Some(Some(email)) = &row.patch.email else { return Ok(None) };
        match self.by_email.as_ref().and_then(|by_email| by_email.get(&email.key())) {
            Some(None) => Err(FieldError::new(Field::Email.name(), SEVERAL)),
            found => Ok(found.copied().flatten()),
        }
    }

    fn apply(&mut self, row: &Row, now: Timestamp) -> Result<Applied, FieldError> {
        let place = match row.number {
            Some(number) => self.by_number.get(&number).copied(),
            None => self.unnumbered(row)?,
        };
        if let Some(Some(id)) = &row.patch.external_id {
            let owner = self.by_external_id.get(id).copied();
            if owner.is_some() && owner != place {
                return Err(FieldError::new(Field::ExternalId.name(), "another client has this external_id"));
            }
        }
        let Some((place, entry)) = place.and_then(|place| Some((place, self.entries.get_mut(place)?))) else {
            let client = Client::create(ClientId::new(), &row.whole(), now)?;
            let (origin, changed) = (Origin::Row, true);
            self.add(Entry { client, origin, changed });
            return Ok(Applied { place: self.entries.len() - 1, is_new: true });
        };
        let mut client = entry.client.clone();
        client.apply(&row.patch, entry.client.updated_at)?;
        client.attributes.keep_kinds(&entry.client.attributes);
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
        Ok(Applied { place, is_new: false })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clients::model::{AttributeValue, ClientPatch};

    /// What became of rows, without the ids and times that differ from run to run.
    type Outcome = (u64, u64, Vec<u64>, Vec<(String, Option<String>, Option<String>, String)>);

    /// Stores as the databases do: what is freed first, then row by row in an order that nobody promised.
    fn store(table: &mut Vec<Client>, merged: &mut Merged) {
        for client in table.iter_mut().filter(|client| merged.freed.contains(&client.id)) {
            client.external_id = None;
        }
        let (new, changed) = (std::mem::take(&mut merged.new), std::mem::take(&mut merged.changed));
        for client in changed.into_iter().rev().chain(new.into_iter().rev()) {
            table.retain(|other| other.id != client.id);
            for other in table.iter() {
                assert_ne!(other.phone_number, client.phone_number);
                assert!(client.external_id.is_none() || other.external_id != client.external_id);
            }
            table.push(client);
        }
    }

    fn run(rows: &[Row], chunk: usize) -> Outcome {
        let (mut table, mut created, mut updated, mut rejected) = (Vec::<Client>::new(), 0, 0, Vec::new());
        for rows in rows.chunks(chunk) {
            let is_named = |client: &&Client| {
                rows.iter().any(|row| {
                    row.number == client.phone_number
                        || row.patch.external_id.as_ref().is_some_and(|id| *id == client.external_id)
                })
            };
            let stored = table.iter().filter(is_named).cloned().collect();
            let mut merged = merge(rows, stored, Timestamp::from_micros(1), 0);
            store(&mut table, &mut merged);
            created += merged.created;
            updated += merged.updated;
            rejected.extend(merged.rejected.iter().map(|rejection| rejection.line));
        }
        table.sort_by_key(|client| client.phone_number);
        let shown = table.iter().map(|client| {
            let text = |id: &Option<ExternalId>| id.as_ref().map(ToString::to_string);
            let tag = client.tag.as_ref().map(ToString::to_string);
            (
                client.phone_number.map(|number| number.to_string()).unwrap_or_default(),
                tag,
                text(&client.external_id),
                client.attributes.to_json(),
            )
        });
        (created, updated, rejected, shown.collect())
    }

    fn row() -> impl Strategy<Value = Row> {
        let choice = || prop_oneof![Just(None), Just(Some(None)), "[a-c]".prop_map(|text| Some(Some(text)))];
        (0..4_i64, choice(), choice(), choice()).prop_map(|(number, tag, id, attribute)| {
            let mut patch = ClientPatch {
                tag: tag.map(|tag| tag.map(|tag| tag.parse().unwrap())),
                external_id: id.map(|id| id.map(|id| id.parse().unwrap())),
                ..ClientPatch::default()
            };
            if let Some(value) = attribute {
                patch.attributes.push(("name".parse().unwrap(), value.map(AttributeValue::Text)));
            }
            Row { line: 0, number: PhoneNumber::from_number(79_030_000_000 + number).ok(), patch }
        })
    }

    proptest! {
        #[test]
        fn chunks_of_any_size_come_to_what_each_row_alone_would(
            mut rows in prop::collection::vec(row(), 1..24), chunk in 2_usize..24,
        ) {
            rows.iter_mut().zip(2..).for_each(|(row, line)| row.line = line);
            prop_assert_eq!(run(&rows, chunk), run(&rows, 1));
        }
    }
}
