//! Rows whose clients are matched by a phone number.

use std::collections::HashMap;

use super::super::report::{PreviewRow, Rejection};
use super::super::row::FileRow;
use super::index::{ByEmail, ByExternalId};
use super::outcome::{Applied, Merged};
use crate::clients::model::{Client, ExternalId, PhoneNumber};
use crate::db::types::{ClientId, Timestamp};
use crate::error::FieldError;

/// A client after the rows so far.
struct NumberedEntry {
    client: Client,
    origin: EntryOrigin,
    changed: bool,
}

enum EntryOrigin {
    File,
    /// The external id is the stored one.
    Database(Option<ExternalId>),
}

/// The clients of a chunk.
#[derive(Default)]
struct ChunkClients {
    entries: Vec<NumberedEntry>,
    by_number: HashMap<PhoneNumber, usize>,
    by_external_id: ByExternalId,
    /// Present if the chunk has rows without a number.
    by_email: Option<ByEmail>,
}

/// Applies the rows in their order, as if each were imported alone. `stored` has every client with a number or an
/// external id of the rows, and every client with the address of a row that has neither.
pub(in super::super) fn merge(
    rows: &[FileRow],
    stored: Vec<Client>,
    now: Timestamp,
    previewed: usize,
) -> Merged {
    let has_unnumbered = rows.iter().any(|row| row.number.is_none());
    let mut book =
        ChunkClients { by_email: has_unnumbered.then(ByEmail::default), ..ChunkClients::default() };
    for client in stored {
        let origin = EntryOrigin::Database(client.external_id.clone());
        let changed = false;
        book.add(NumberedEntry { client, origin, changed });
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
        Some(PreviewRow { line, client: book.entries.get(place)?.client.clone().into() })
    };
    merged.preview = shown.into_iter().filter_map(client).collect();
    for NumberedEntry { client, origin, changed } in book.entries {
        match origin {
            EntryOrigin::File => merged.new.push(client),
            EntryOrigin::Database(external_id) if changed => {
                if external_id.is_some() && external_id != client.external_id {
                    merged.freed.push(client.id);
                }
                merged.changed.push(client);
            }
            EntryOrigin::Database(_) => {}
        }
    }
    merged
}

impl ChunkClients {
    fn add(&mut self, entry: NumberedEntry) {
        let place = self.entries.len();
        if let Some(number) = entry.client.phone_number {
            self.by_number.insert(number, place);
        }
        self.by_external_id.note(None, &entry.client, place);
        if let Some(by_email) = &mut self.by_email {
            by_email.note(None, &entry.client, place);
        }
        self.entries.push(entry);
    }

    /// Finds the client of a row without a number: by its external id, else by its address.
    fn unnumbered(&self, row: &FileRow) -> Result<Option<usize>, FieldError> {
        match (row.external_id(), &self.by_email) {
            (Some(id), _) => Ok(self.by_external_id.place(id)),
            (None, Some(by_email)) => by_email.find(row),
            (None, None) => Ok(None),
        }
    }

    fn apply(&mut self, row: &FileRow, now: Timestamp) -> Result<Applied, FieldError> {
        let place = match row.number {
            Some(number) => self.by_number.get(&number).copied(),
            None => self.unnumbered(row)?,
        };
        self.by_external_id.check(row, place)?;
        let Some((place, entry)) = place.and_then(|place| Some((place, self.entries.get_mut(place)?))) else {
            let client = Client::create(ClientId::new(), &row.whole(), now)?;
            let (origin, changed) = (EntryOrigin::File, true);
            self.add(NumberedEntry { client, origin, changed });
            return Ok(Applied { place: self.entries.len() - 1, is_new: true });
        };
        let mut client = entry.client.clone();
        client.apply(&row.patch, entry.client.updated_at)?;
        client.attributes.keep_kinds(&entry.client.attributes);
        if client != entry.client {
            client.updated_at = now;
            self.by_external_id.note(Some(&entry.client), &client, place);
            if let Some(by_email) = &mut self.by_email {
                by_email.note(Some(&entry.client), &client, place);
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

    /// The result of rows, without the ids and times that differ from run to run.
    type Outcome = (u64, u64, Vec<u64>, Vec<Shown>);

    /// A client's number, tag, external id, address and attributes.
    type Shown = (String, Option<String>, Option<String>, Option<String>, String);

    /// Stores as the databases do: first it clears freed ids, then it writes row by row in an unspecified order.
    fn store(table: &mut Vec<Client>, merged: &mut Merged) {
        for client in table.iter_mut().filter(|client| merged.freed.contains(&client.id)) {
            client.external_id = None;
        }
        let (new, changed) = (std::mem::take(&mut merged.new), std::mem::take(&mut merged.changed));
        for client in changed.into_iter().rev().chain(new.into_iter().rev()) {
            table.retain(|other| other.id != client.id);
            for other in table.iter() {
                assert!(client.phone_number.is_none() || other.phone_number != client.phone_number);
                assert!(client.external_id.is_none() || other.external_id != client.external_id);
            }
            table.push(client);
        }
    }

    fn run(rows: &[FileRow], chunk: usize) -> Outcome {
        let (mut table, mut created, mut updated, mut rejected) = (Vec::<Client>::new(), 0, 0, Vec::new());
        for rows in rows.chunks(chunk) {
            let is_named = |client: &&Client| {
                rows.iter().any(|row| {
                    row.number.is_some() && row.number == client.phone_number
                        || row.external_id().is_some() && row.external_id() == client.external_id.as_ref()
                        || row.number.is_none()
                            && row.email().is_some()
                            && row.email() == client.email.as_ref()
                })
            };
            let stored = table.iter().filter(is_named).cloned().collect();
            let mut merged = merge(rows, stored, Timestamp::from_micros(1), 0);
            store(&mut table, &mut merged);
            created += merged.created;
            updated += merged.updated;
            rejected.extend(merged.rejected.iter().map(|rejection| rejection.line));
        }
        let shown = table.iter().map(|client| {
            let text = |id: &Option<ExternalId>| id.as_ref().map(ToString::to_string);
            let tag = client.tag.as_ref().map(ToString::to_string);
            (
                client.phone_number.map(|number| number.to_string()).unwrap_or_default(),
                tag,
                text(&client.external_id),
                client.email.as_ref().map(ToString::to_string),
                client.attributes.to_json(),
            )
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort();
        (created, updated, rejected, shown)
    }

    fn row() -> impl Strategy<Value = FileRow> {
        let choice = || prop_oneof![Just(None), Just(Some(None)), "[a-c]".prop_map(|text| Some(Some(text)))];
        let number = prop::option::weighted(0.7, 0..4_i64);
        let parts = (number, choice(), choice(), choice(), choice());
        let row = parts.prop_map(|(number, tag, id, email, attribute)| {
            let email = email.map(|name| name.map(|name| format!("{name}@example.com").parse().unwrap()));
            let mut patch = ClientPatch {
                tags: tag.map(|tag| tag.map(|tag| tag.parse().unwrap()).into_iter().collect()),
                external_id: id.map(|id| id.map(|id| id.parse().unwrap())),
                email,
                ..ClientPatch::default()
            };
            if let Some(value) = attribute {
                patch.attributes.push(("name".parse().unwrap(), value.map(AttributeValue::Text)));
            }
            let number = number.and_then(|n| PhoneNumber::from_number(79_030_000_000 + n).ok());
            FileRow { line: 0, number, patch }
        });
        row.prop_filter("a client needs an address", |row| {
            row.number.is_some() || row.external_id().is_some() || row.email().is_some()
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
