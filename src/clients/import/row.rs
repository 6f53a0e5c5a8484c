//! Parses a record into the changes of a client, or into errors.

use std::borrow::Cow;

use super::cells::{clean, is_blank, trimmed};
use super::columns::{Column, FileColumns};
use super::lenient;
use super::options::MatchBy;
use super::report::{Rejection, Warning};
use crate::address::email::EmailAddress;
use crate::clients::model::{AttributeValue, ClientPatch, Email, ExternalId, Field, NO_ADDRESS, PhoneNumber};
use crate::error::{Complaints, Error, FieldError};
use crate::sheet;

/// The effect of an invalid cell in a row that is imported.
const LEFT_OUT: &str = "; the cell was skipped";

/// A valid row.
#[derive(Debug, Clone)]
pub(super) struct FileRow {
    pub(super) line: u64,
    pub(super) number: Option<PhoneNumber>,
    /// The changes without the number.
    pub(super) patch: ClientPatch,
}

impl FileRow {
    /// Returns the changes with the number.
    pub(super) fn whole(&self) -> ClientPatch {
        ClientPatch { phone_number: Some(self.number), ..self.patch.clone() }
    }

    /// Returns the external id of the row.
    pub(super) fn external_id(&self) -> Option<&ExternalId> {
        self.patch.external_id.as_ref()?.as_ref()
    }

    /// Returns the e-mail address of the row.
    pub(super) fn email(&self) -> Option<&Email> {
        self.patch.email.as_ref()?.as_ref()
    }
}

/// A parser of rows.
pub(super) struct RowReader {
    pub(super) columns: FileColumns,
    pub(super) match_by: MatchBy,
    pub(super) is_strict: bool,
    pub(super) separator: u8,
}

/// The errors of a row. A fatal one rejects the row.
#[derive(Default)]
struct RowFaults {
    is_fatal: bool,
    all: Vec<FieldError>,
}

impl RowFaults {
    fn add(&mut self, is_fatal: bool, field: impl Into<String>, reason: impl Into<String>) {
        self.is_fatal |= is_fatal;
        self.all.push(FieldError::new(field, reason));
    }
}

impl RowReader {
    /// Parses a row. Invalid cells that are not needed are skipped, and their warnings are added to `warnings`.
    ///
    /// # Errors
    /// All errors of a row that is rejected.
    pub(super) fn read<'c>(
        &self,
        cells: impl ExactSizeIterator<Item = &'c [u8]>,
        line: u64,
        warnings: &mut Vec<Warning>,
    ) -> Result<FileRow, Vec<Rejection>> {
        let (has, should) = (cells.len(), self.columns.all.len());
        let (mut faults, mut patch) = (RowFaults::default(), ClientPatch::default());
        if has < self.columns.needed() {
            faults.add(true, "row", format!("has {has} cells, but the header has {should}"));
        } else {
            for (at, cell) in cells.enumerate() {
                match self.columns.all.get(at) {
                    Some(column) => self.fill(&mut patch, (at, column), cell, &mut faults),
                    // spreadsheets also write the separators of empty columns
                    None if is_blank(cell) => {}
                    None => {
                        faults.all.clear();
                        faults.add(true, "row", format!("has {has} cells, but the header has {should}"));
                        break;
                    }
                }
            }
        }
        if !faults.is_fatal && !has_address(&patch) {
            let has_wrong_number = faults.all.iter().any(|fault| fault.field == Field::PhoneNumber.name());
            if has_wrong_number {
                faults.is_fatal = true;
            } else {
                faults.add(true, Field::PhoneNumber.name(), NO_ADDRESS);
            }
        }
        if faults.is_fatal || (self.is_strict && !faults.all.is_empty()) {
            let rejection = |e: FieldError| Rejection { line, field: e.field, reason: e.reason };
            return Err(faults.all.into_iter().map(rejection).collect());
        }
        let warning = |e: FieldError| Warning { line, field: e.field, reason: e.reason + LEFT_OUT };
        warnings.extend(faults.all.into_iter().map(warning));
        let number = patch.phone_number.take().flatten();
        if patch.mobile_operator_code == Some(None) {
            patch.mobile_operator_code = number.map(PhoneNumber::operator_code);
        }
        Ok(FileRow { line, number, patch })
    }

    fn fill(
        &self,
        patch: &mut ClientPatch,
        (at, column): (usize, &Column),
        cell: &[u8],
        faults: &mut RowFaults,
    ) {
        // an invalid number is skipped if another field identifies the client
        let is_phone = *column == Column::Field(Field::PhoneNumber);
        let is_key = !is_phone && *column == Column::Field(self.match_by.field());
        let text = match std::str::from_utf8(cell) {
            // an e-mail address keeps its invisible characters, because without them it would be another address
            Ok(text) if *column == Column::Field(Field::Email) => sheet::unguard(trimmed(text)).into(),
            Ok(text) => clean(text),
            Err(_) if matches!(column, Column::LeftOut) => return,
            Err(_) => return faults.add(is_key, self.name(at, column), "is not UTF-8"),
        };
        let is_empty = text.is_empty();
        let outcome = match column {
            // another field may identify a client without a number
            Column::Field(Field::PhoneNumber) if is_empty => Ok(()),
            Column::Field(_) if is_empty && is_key => {
                Err("must not be empty, because clients are matched by it")
            }
            Column::Field(field) if is_empty => patch.set(*field, None),
            Column::Field(field) => lenient::set(patch, *field, &text),
            Column::Attribute(name) => {
                attribute(&text).map(|value| patch.attributes.push((name.clone(), value)))
            }
            Column::Attributes if is_empty => Ok(()),
            Column::Attributes => return attributes(patch, &text, faults),
            Column::Unnamed if !is_empty => Err("has no header, so its cells have no name"),
            Column::LeftOut | Column::Unnamed => Ok(()),
        };
        if let Err(why) = outcome {
            faults.add(is_key, self.name(at, column), why);
        }
    }

    fn name<'n>(&'n self, at: usize, column: &'n Column) -> Cow<'n, str> {
        match column {
            Column::Field(field) => field.name().into(),
            Column::Attribute(name) => name.as_str().into(),
            Column::Attributes => "attributes".into(),
            Column::LeftOut | Column::Unnamed => format!("column {}", at + 1).into(),
        }
    }

    /// Returns true if a line looks like a complete row: it has enough cells, and a phone number or an e-mail address
    /// in the right column.
    pub(super) fn is_row(&self, line: &[u8]) -> bool {
        let cells: Vec<&[u8]> = line.split(|byte| *byte == self.separator).collect();
        let text = |field| {
            let cell = self.columns.place(field).and_then(|at| cells.get(at));
            cell.and_then(|cell| std::str::from_utf8(cell).ok())
                .map(|text| text.trim_matches([' ', '"', '\'']))
        };
        cells.len() > 1
            && cells.len() >= self.columns.needed()
            && (text(Field::PhoneNumber).is_some_and(|text| text.parse::<PhoneNumber>().is_ok())
                || text(Field::Email).is_some_and(|text| EmailAddress::parse(text).is_ok()))
    }
}

fn has_address(patch: &ClientPatch) -> bool {
    patch.phone_number.is_some()
        || matches!(patch.email, Some(Some(_)))
        || matches!(patch.push_token, Some(Some(_)))
        || matches!(patch.external_id, Some(Some(_)))
}

fn attribute(text: &str) -> Result<Option<AttributeValue>, &'static str> {
    if text.is_empty() { Ok(None) } else { AttributeValue::text(text).map(Some) }
}

/// Reads an object of attributes, as exports of Fanfare and of other systems contain.
fn attributes(patch: &mut ClientPatch, text: &str, faults: &mut RowFaults) {
    let Ok(value @ serde_json::Value::Object(_)) = serde_json::from_str(text) else {
        return faults.add(false, "attributes", "must be a JSON object like {\"name\": \"Anna\"}");
    };
    let mut wrong = Complaints::default();
    patch.read_attributes(value, &mut wrong);
    if let Err(Error::Invalid(fields)) = wrong.finish() {
        faults.all.extend(fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::import::options::Mapping;

    fn reader(headers: &[&str], is_strict: bool) -> RowReader {
        let headers: Vec<_> = headers.iter().map(|header| (*header).to_owned()).collect();
        let columns = FileColumns::of(&headers, 1, &Mapping::default());
        RowReader { columns, match_by: MatchBy::PhoneNumber, is_strict, separator: b',' }
    }

    /// Returns the fields with warnings, or the fields for which the row is rejected.
    fn faults(reader: &RowReader, row: &str) -> Result<Vec<String>, Vec<String>> {
        let mut warnings = Vec::new();
        let cells: Vec<&[u8]> = row.as_bytes().split(|byte| *byte == b',').collect();
        match reader.read(cells.into_iter(), 7, &mut warnings) {
            Ok(_) => Ok(warnings.into_iter().map(|warning| warning.field).collect()),
            Err(wrong) => Err(wrong.into_iter().map(|rejection| rejection.field).collect()),
        }
    }

    #[test]
    fn a_wrong_cell_loses_the_cell_and_in_strict_imports_the_row() {
        let headers = ["phone_number", "timezone", "email", "locale", "name", ""];
        let right = "79031234567,MSK,anna@example.com,ru_RU,Anna,";
        let wrong = "79031234567,Mars,ann\u{200b}a@example.com,?,Anna,x";
        assert_eq!(faults(&reader(&headers, false), right), Ok(vec![]));
        assert_eq!(faults(&reader(&headers, true), right), Ok(vec![]));
        let named = ["timezone", "email", "locale", "column 6"].map(str::to_owned).to_vec();
        assert_eq!(faults(&reader(&headers, false), wrong), Ok(named.clone()));
        assert_eq!(faults(&reader(&headers, true), wrong), Err(named));
    }

    #[test]
    fn a_row_needs_its_key_and_its_cells() {
        let reader = reader(&["phone_number", "name", ""], false);
        for (row, expected) in [
            ("79031234567,Anna", Ok(vec![])),
            ("79031234567,Anna,,, ,", Ok(vec![])),
            ("79031234567,Anna,,,x", Err(vec!["row".to_owned()])),
            ("79031234567", Err(vec!["row".to_owned()])),
            ("\u{a0},Anna", Err(vec!["phone_number".to_owned()])),
            ("7903,Anna", Err(vec!["phone_number".to_owned()])),
        ] {
            assert_eq!(faults(&reader, row), expected, "{row}");
        }
    }

    #[test]
    fn a_line_is_a_row_when_it_has_a_number_in_its_place() {
        let reader = reader(&["name", "phone_number"], false);
        assert!(reader.is_row(b"Anna,79031234567") && reader.is_row(b"Anna, \"+7 903 123-45-67\",x"));
        assert!(!reader.is_row(b"79031234567") && !reader.is_row(b"79031234567,Anna") && !reader.is_row(b""));
    }
}
