//! Rows whose clients are matched by an external id or an e-mail address, so that phone numbers can change. Clients may
//! swap numbers or pass them on in a circle, so conflicts are checked after all rows are applied.

use std::collections::{BTreeMap, HashMap};

use super::super::options::MatchBy;
use super::super::report::{PreviewRow, Rejection};
use super::super::row::FileRow;
use super::index::{ByEmail, ByExternalId};
use super::outcome::{Applied, Deferred, Merged};
use crate::clients::model::{Client, Field, PhoneNumber};
use crate::db::types::{ClientId, Timestamp};
use crate::error::FieldError;

const TAKEN: &str = "another client has this phone_number";

/// A client after the rows so far.
struct KeyedEntry {
    client: Client,
    /// The stored version, if there is one.
    stored: Option<Client>,
    /// The index of the row that set its number.
    numbered_by: Option<usize>,
}

/// The clients of a chunk.
struct KeyedClients {
    by: MatchBy,
    entries: Vec<KeyedEntry>,
    by_number: HashMap<PhoneNumber, usize>,
    by_external_id: ByExternalId,
    by_email: ByEmail,
}

/// Applies rows by their key. `stored` has every client with a key, a number or an external id of the rows. `is_final`
/// is true if no rows follow in which another client could give up its number.
pub(in super::super) fn merge_by_key(
    rows: &[FileRow],
    stored: &[Client],
    now: Timestamp,
    by: MatchBy,
    is_final: bool,
    previewed: usize,
) -> Merged {
    let mut contested: BTreeMap<usize, FieldError> = BTreeMap::new();
    // the loop ends, because each round but the last removes a row
    loop {
        let mut book = KeyedClients::of(stored, by);
        let mut merged = Merged::default();
        let mut shown = Vec::new();
        for (index, row) in rows.iter().enumerate().filter(|(index, _)| !contested.contains_key(index)) {
            match book.apply(index, row, now) {
                Ok(Applied { place, is_new }) => {
                    merged.created += u64::from(is_new);
                    merged.updated += u64::from(!is_new);
                    shown.push((row.line, place));
                }
                Err(why) => merged.rejected.push(rejection(row, &why)),
            }
        }
        let losers = book.contests();
        if losers.is_empty() {
            for (index, why) in contested {
                let Some(row) = rows.get(index) else { continue };
                match is_final {
                    true => merged.rejected.push(rejection(row, &why)),
                    false => {
                        merged.deferred.push(Deferred { row: row.clone(), rejection: rejection(row, &why) })
                    }
                }
            }
            let client = |(line, place): (u64, usize)| {
                Some(PreviewRow { line, client: book.entries.get(place)?.client.clone().into() })
            };
            merged.preview = shown.into_iter().take(previewed).filter_map(client).collect();
            book.finish(&mut merged);
            return merged;
        }
        contested
            .extend(losers.into_iter().map(|row| (row, FieldError::new(Field::PhoneNumber.name(), TAKEN))));
    }
}

fn rejection(row: &FileRow, FieldError { field, reason }: &FieldError) -> Rejection {
    Rejection { line: row.line, field: field.clone(), reason: reason.clone() }
}

impl KeyedClients {
    fn of(stored: &[Client], by: MatchBy) -> Self {
        let mut book = Self {
            by,
            entries: Vec::new(),
            by_number: HashMap::new(),
            by_external_id: ByExternalId::default(),
            by_email: ByEmail::default(),
        };
        for client in stored {
            book.add(client.clone(), Some(client.clone()), None);
        }
        book
    }

    fn add(&mut self, client: Client, stored: Option<Client>, numbered_by: Option<usize>) -> usize {
        let place = self.entries.len();
        if let Some(number) = client.phone_number {
            self.by_number.insert(number, place);
        }
        self.by_external_id.note(None, &client, place);
        // an e-mail address does not change while clients are matched by it
        if self.by == MatchBy::Email {
            self.by_email.note(None, &client, place);
        }
        self.entries.push(KeyedEntry { client, stored, numbered_by });
        place
    }

    fn apply(&mut self, index: usize, row: &FileRow, now: Timestamp) -> Result<Applied, FieldError> {
        let place = self.find(row)?;
        self.by_external_id.check(row, place)?;
        let Some((place, entry)) = place.and_then(|place| Some((place, self.entries.get_mut(place)?))) else {
            let client = Client::create(ClientId::new(), &row.whole(), now)?;
            return Ok(Applied { place: self.add(client, None, Some(index)), is_new: true });
        };
        let mut patch = row.patch.clone();
        // an unchanged number is not set again, which would reset the operator code
        patch.phone_number = Some(row.number).filter(|n| n.is_some() && *n != entry.client.phone_number);
        let mut client = entry.client.clone();
        client.apply(&patch, entry.client.updated_at)?;
        client.attributes.keep_kinds(&entry.client.attributes);
        if client != entry.client {
            client.updated_at = now;
            if client.phone_number != entry.client.phone_number {
                entry.numbered_by = Some(index);
                self.by_number.extend(client.phone_number.map(|number| (number, place)));
            }
            self.by_external_id.note(Some(&entry.client), &client, place);
            entry.client = client;
        }
        Ok(Applied { place, is_new: false })
    }

    /// Finds the row's client. A new external id belongs to the client with the row's number, if that has no external
    /// id yet.
    fn find(&self, row: &FileRow) -> Result<Option<usize>, FieldError> {
        if self.by == MatchBy::Email {
            return self.by_email.find(row);
        }
        if let Some(place) = row.external_id().and_then(|id| self.by_external_id.place(id)) {
            return Ok(Some(place));
        }
        let place = row.number.and_then(|number| self.by_number.get(&number).copied());
        let has_none = |place: &usize| {
            self.entries.get(*place).is_some_and(|entry| {
                entry.client.external_id.is_none() && entry.client.phone_number == row.number
            })
        };
        Ok(place.filter(has_none))
    }

    /// Returns the rows that set a number which another client has. The client that had the number before keeps it,
    /// else the client of the earlier row.
    fn contests(&self) -> Vec<usize> {
        let mut holders: HashMap<PhoneNumber, Option<usize>> = HashMap::new();
        let mut losers = Vec::new();
        for entry in &self.entries {
            // `None` for an unchanged number sorts before all rows
            let mine = entry.numbered_by.filter(|_| entry.has_new_number());
            let Some(number) = entry.client.phone_number else { continue };
            if let Some(theirs) = holders.get_mut(&number) {
                losers.extend(mine.max(*theirs));
                *theirs = mine.min(*theirs);
            } else {
                holders.insert(number, mine);
            }
        }
        losers
    }

    fn finish(self, merged: &mut Merged) {
        for entry in self.entries {
            let has_new_number = entry.has_new_number();
            let KeyedEntry { client, stored, .. } = entry;
            let Some(stored) = stored else {
                merged.new.push(client);
                continue;
            };
            if client == stored {
                continue;
            }
            if has_new_number {
                merged.moved.push(client.id);
            }
            if stored.external_id.is_some() && stored.external_id != client.external_id {
                merged.freed.push(client.id);
            }
            merged.changed.push(client);
        }
    }
}

impl KeyedEntry {
    fn has_new_number(&self) -> bool {
        self.stored.as_ref().is_none_or(|stored| stored.phone_number != self.client.phone_number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clients::model::ClientPatch;

    fn number(n: i64) -> PhoneNumber {
        PhoneNumber::from_number(79_030_000_000 + n).unwrap()
    }

    fn row(line: u64, id: &str, n: Option<i64>) -> FileRow {
        let patch = ClientPatch { external_id: Some(Some(id.parse().unwrap())), ..ClientPatch::default() };
        FileRow { line, number: n.map(number), patch }
    }

    fn client(id: Option<&str>, n: i64) -> Client {
        let id = id.map(|id| id.parse().unwrap());
        let phone_number = Some(Some(number(n)));
        let patch = ClientPatch { phone_number, external_id: Some(id), ..ClientPatch::default() };
        Client::create(ClientId::new(), &patch, Timestamp::from_micros(1)).unwrap()
    }

    fn merged(stored: &[Client], rows: &[FileRow], is_final: bool) -> Merged {
        merge_by_key(rows, stored, Timestamp::from_micros(2), MatchBy::ExternalId, is_final, 0)
    }

    /// Returns the final numbers of all clients.
    fn numbers(merged: &Merged, stored: &[Client]) -> Vec<(String, i64)> {
        let is_old = |client: &&Client| !merged.changed.iter().any(|changed| changed.id == client.id);
        let all = merged.new.iter().chain(&merged.changed).chain(stored.iter().filter(is_old));
        let mut all: Vec<_> = all
            .filter_map(|client| {
                let id = client.external_id.as_ref().map(ToString::to_string).unwrap_or_default();
                Some((id, client.phone_number?.number() - 79_030_000_000))
            })
            .collect();
        all.sort_unstable();
        all
    }

    fn pairs(of: &[(&str, i64)]) -> Vec<(String, i64)> {
        of.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect()
    }

    #[test]
    fn numbers_are_changed_swapped_and_passed_on() {
        let stored = [client(Some("a"), 1), client(Some("b"), 2), client(Some("c"), 3), client(None, 9)];
        for (rows, expected) in [
            (vec![row(2, "a", Some(5))], [("", 9), ("a", 5), ("b", 2), ("c", 3)]),
            (vec![row(2, "a", Some(2)), row(3, "b", Some(1))], [("", 9), ("a", 2), ("b", 1), ("c", 3)]),
            (
                vec![row(2, "a", Some(2)), row(3, "b", Some(3)), row(4, "c", Some(1))],
                [("", 9), ("a", 2), ("b", 3), ("c", 1)],
            ),
            (vec![row(2, "a", None)], [("", 9), ("a", 1), ("b", 2), ("c", 3)]),
            (vec![row(2, "d", Some(9))], [("a", 1), ("b", 2), ("c", 3), ("d", 9)]),
        ] {
            let merged = merged(&stored, &rows, true);
            assert!(merged.rejected.is_empty(), "{:?}", merged.rejected);
            assert_eq!(numbers(&merged, &stored), pairs(&expected));
            assert_eq!(merged.updated, rows.len() as u64);
        }
    }

    #[test]
    fn a_number_that_another_keeps_is_refused_or_waits_for_the_rest_of_the_file() {
        let stored = [client(Some("a"), 1), client(Some("b"), 2), client(Some("c"), 3)];
        // a cannot have b's number, so c cannot have a's
        let rows = [row(2, "c", Some(1)), row(3, "a", Some(2)), row(4, "n", Some(2)), row(5, "m", None)];
        let last = merged(&stored, &rows, true);
        assert_eq!(numbers(&last, &stored), pairs(&[("a", 1), ("b", 2), ("c", 3)]));
        let mut lines: Vec<_> = last.rejected.iter().map(|rejection| rejection.line).collect();
        lines.sort_unstable();
        assert_eq!(lines, [2, 3, 4]);
        assert_eq!(last.created, 1, "who has an id needs no number");
        let before = merged(&stored, &rows, false);
        assert_eq!((before.deferred.len(), before.rejected.len()), (3, 0));
    }

    #[test]
    fn an_address_of_several_clients_matches_none() {
        let email = |text: &str| Some(Some(text.parse().unwrap()));
        let with = |n, text| {
            let patch = ClientPatch { email: email(text), ..ClientPatch::default() };
            let patch = ClientPatch { phone_number: Some(Some(number(n))), ..patch };
            Client::create(ClientId::new(), &patch, Timestamp::from_micros(1)).unwrap()
        };
        let stored = [with(1, "Pat@Example.com"), with(2, "sam@example.com"), with(3, "Sam@example.com")];
        let row = |line, text| {
            let patch = ClientPatch {
                email: email(text),
                tags: Some(vec!["vip".parse().unwrap()]),
                ..ClientPatch::default()
            };
            FileRow { line, number: None, patch }
        };
        let rows = [row(2, "pat@EXAMPLE.com"), row(3, "sam@example.com")];
        let merged = merge_by_key(&rows, &stored, Timestamp::from_micros(2), MatchBy::Email, true, 0);
        assert_eq!((merged.updated, merged.changed.len(), merged.rejected.len()), (1, 1, 1));
        assert_eq!(merged.changed[0].id, stored[0].id);
        assert_eq!(merged.rejected[0].line, 3);
    }

    proptest! {
        #[test]
        fn no_two_clients_end_with_one_number(
            ids in prop::collection::vec("[a-e]", 1..12), wanted in prop::collection::vec(0..6_i64, 12), have in 0..5_usize,
        ) {
            let stored: Vec<_> = ["a", "b", "c", "d", "e"].iter().zip(0..).take(have).map(|(id, n)| client(Some(id), n)).collect();
            let rows: Vec<_> = ids.iter().zip(&wanted).zip(2..).map(|((id, n), line)| row(line, id, Some(*n))).collect();
            let merged = merged(&stored, &rows, true);
            let all = numbers(&merged, &stored);
            let distinct: std::collections::HashSet<_> = all.iter().map(|(_, n)| n).collect();
            prop_assert_eq!(distinct.len(), all.len());
            prop_assert_eq!(merged.created + merged.updated + merged.rejected.len() as u64, rows.len() as u64);
        }
    }
}
