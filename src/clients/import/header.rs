//! Detection of the separator and the header line.

use super::cells::{clean, is_blank};
use super::names::plain;
use super::options::{ImportOptions, MatchBy};
use super::split::{Cells, Split, first_line, split};
use crate::address::email::EmailAddress;
use crate::clients::model::Field;
use crate::error::{Error, Result};

/// The separators of cells, the most common first.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// The number of records that are searched for the header, including titles above it.
const MOST_TITLES: usize = 20;
/// The smallest number of digits of a phone number; a date has fewer.
const FEWEST_DIGITS: usize = 9;

/// The header and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) separator: u8,
    /// The names of the columns, without empty ones at the end.
    pub(super) names: Vec<String>,
    pub(super) line: u64,
    /// The number of bytes up to the end of the header.
    pub(super) length: usize,
    /// The number of lines up to the end of the header.
    pub(super) lines: u64,
    /// The number of recognized fields.
    known: usize,
}

/// Finds the header in the first lines of a file: the record that names the most fields, among them one that identifies
/// clients. `is_whole` is true if the file has no more lines.
///
/// # Errors
/// [`Error::Invalid`] with the name of the missing column.
pub(super) fn find(sample: &[u8], is_whole: bool, options: &ImportOptions) -> Result<Header> {
    let (named, skipped) = named_separator(sample, is_whole);
    let text = sample.get(skipped..).unwrap_or_default();
    let mut best: Option<Header> = None;
    for separator in SEPARATORS.into_iter().filter(|one| named.is_none_or(|named| named == *one)) {
        let found = headers(text, is_whole, separator, options);
        best = best.into_iter().chain(found).reduce(|best, other| {
            if (other.known, other.names.len()) > (best.known, best.names.len()) { other } else { best }
        });
    }
    let mut header = best.ok_or_else(|| missing(options.match_by))?;
    header.length += skipped;
    let skipped_lines = u64::from(skipped > 0);
    header.line += skipped_lines;
    header.lines += skipped_lines;
    Ok(header)
}

fn missing(key: Option<MatchBy>) -> Error {
    let field = key.unwrap_or(MatchBy::PhoneNumber).field().name();
    Error::invalid(
        field,
        format!(
            "is missing: the first lines contain no header with a column for {field}; name the columns in the first \
             line, or map a column to it (mapping=Header:{field})"
        ),
    )
}

/// Parses Excel's `sep=;` line. Returns the separator and the length of the line in bytes.
fn named_separator(text: &[u8], is_whole: bool) -> (Option<u8>, usize) {
    let Some(length) = first_line(text, is_whole) else { return (None, 0) };
    let line = text.get(..length).unwrap_or_default();
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    match line {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', separator] if SEPARATORS.contains(separator) => {
            (Some(*separator), length)
        }
        _ => (None, 0),
    }
}

/// Returns the records that can be the header.
fn headers(text: &[u8], is_whole: bool, separator: u8, options: &ImportOptions) -> Vec<Header> {
    let mut found = Vec::new();
    let mut cells = Cells::default();
    let (mut at, mut line, mut titles) = (0, 1, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty() && titles < MOST_TITLES) {
        let (length, lines) = match split(rest, is_whole, separator, &mut cells) {
            Split::Record { length, lines } => {
                let names = names(&cells, rest);
                titles += usize::from(!names.is_empty());
                let known = known(&names, options);
                // a row may contain the name of a field, for example as the kind of a number
                if known > 0 && !is_row(&names, titles == 1) {
                    let (length, lines) = (at + length, line + lines - 1);
                    found.push(Header { separator, names, line, length, lines, known });
                }
                (length, lines)
            }
            Split::Malformed(_) => match first_line(rest, is_whole) {
                Some(length) => (length, 1),
                None => break,
            },
            Split::Incomplete => break,
        };
        at += length;
        line += lines;
    }
    found
}

fn names(cells: &Cells, record: &[u8]) -> Vec<String> {
    let cells: Vec<&[u8]> = cells.iter(record).collect();
    let count = cells.iter().rposition(|cell| !is_blank(cell)).map_or(0, |last| last + 1);
    let text = |cell: &&[u8]| clean(&String::from_utf8_lossy(cell)).into_owned();
    cells.iter().take(count).map(text).collect()
}

/// Counts the recognized fields; zero if none of them identifies clients.
fn known(names: &[String], options: &ImportOptions) -> usize {
    let fields: Vec<Field> = names.iter().filter_map(|name| options.mapping.field(&plain(name))).collect();
    let is_key = |by: &MatchBy| fields.contains(&by.field());
    let has_key = match options.match_by {
        Some(by) => is_key(&by),
        None => MatchBy::ALL.iter().any(is_key),
    };
    if has_key { Field::ALL.iter().filter(|field| fields.contains(field)).count() } else { 0 }
}

/// Returns true if a record contains an e-mail address or, except in the first record, a text like a phone number.
fn is_row(cells: &[String], is_first: bool) -> bool {
    let is_number = |cell: &str| {
        let digits = cell.chars().filter(char::is_ascii_digit).count();
        digits >= FEWEST_DIGITS && cell.chars().all(|c| c.is_ascii_digit() || "+ ()-".contains(c))
    };
    cells.iter().any(|cell| EmailAddress::parse(cell).is_ok() || (!is_first && is_number(cell)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (char, u64, Vec<String>, usize) {
        let header = find(text.as_bytes(), true, &ImportOptions::default()).unwrap();
        (char::from(header.separator), header.line, header.names, header.length)
    }

    #[test]
    fn the_separator_and_the_header_are_found() {
        for (text, separator, line, count) in [
            ("phone_number,name\n1,2\n", ',', 1, 2),
            ("phone_number;name, first\n1;2\n", ';', 1, 2),
            ("Телефон\tИмя\r\n1\t2\r\n", '\t', 1, 2),
            ("phone|name\n1|2\n", '|', 1, 2),
            ("sep=;\r\nphone_number;name\r\n", ';', 2, 2),
            ("\"sep=,\"\nphone_number,a;b\n", ',', 2, 2),
            ("Контрагенты на 01.02.2026\r\n\r\nphone_number,name\r\n1,Anna\r\n", ',', 3, 2),
            ("Clients, phone list\n,,\nPhone,Name,E-mail,\n1,2,3,\n", ',', 3, 3),
            ("\"a title\nof two lines\"\nPhone,Name\n", ',', 3, 2),
            ("a \"title\",\"open\nPhone,Name\n", ',', 2, 2),
            ("name;\"E-mail, private\";E-Mail\nx;y;z\n", ';', 1, 3),
            ("phone_number", ',', 1, 1),
            ("Phone,Kind,E-Mail\n+79030000001,mobile,tag\n", ',', 1, 3),
            ("Visits\nPhone,2026-12-01,01.12.2026\n", ',', 2, 3),
            ("4600000000001,Phone\n", ',', 1, 2),
        ] {
            let header = found(text);
            assert_eq!(
                (header.0, header.1, header.2.len()),
                (separator, line, count),
                "{text:?}: {header:?}"
            );
        }
    }

    #[test]
    fn a_header_ends_where_the_rows_begin() {
        let text = "sep=;\r\nTitle\r\nphone;\"na\nme\";\r\n79;Anna\r\n";
        let header = find(text.as_bytes(), true, &ImportOptions::default()).unwrap();
        assert_eq!((&text[header.length..], header.lines), ("79;Anna\r\n", 4));
        assert_eq!(header.names, ["phone", "na\nme"]);
    }

    #[test]
    fn a_file_without_a_column_for_the_key_is_refused() {
        let by = |match_by| ImportOptions { match_by, ..ImportOptions::default() };
        for (text, options, field) in [
            ("", by(None), "phone_number"),
            ("name,tag\nAnna,vip\n", by(None), "phone_number"),
            ("79030000001\n79030000002\n", by(None), "phone_number"),
            ("Name,Kind,Number of it\nAnna,Mobile,+7 903 000-00-01\n", by(None), "phone_number"),
            ("Name,What\nanna@example.com,E-Mail\n", by(None), "phone_number"),
            ("phone,name\n", by(Some(MatchBy::Email)), "email"),
        ] {
            let Err(Error::Invalid(wrong)) = find(text.as_bytes(), true, &options) else { panic!("{text}") };
            assert_eq!(wrong[0].field, field);
        }
        let mapping = "Kontakt:phone_number".parse().unwrap();
        let options = ImportOptions { mapping, ..ImportOptions::default() };
        assert!(find(b"Kontakt;Name\n", true, &options).is_ok());
    }
}
