//! Splits text into the cells of one record. Quoting is strict: a quoted cell ends before a separator or a line end,
//! else the record is malformed. With a lenient reader a stray quote would swallow the rows after it.

use memchr::{memchr, memchr_iter, memchr2, memchr2_iter, memchr3};

/// The error of a quote that is not closed before the end of the file.
pub(super) const NOT_CLOSED: &str =
    "a quote is opened in this line and not closed; double it within a quoted cell";
/// The error of a quote that is closed in the middle of a cell.
const TEXT_BEHIND: &str =
    "text follows a closing quote; double a quote within a quoted cell, and end the cell with one quote";

/// The position of a cell.
#[derive(Debug, Clone, Copy)]
struct Cell {
    begin: usize,
    end: usize,
    /// True if the position is in `unescaped`, the texts whose doubled quotes were replaced.
    is_unescaped: bool,
}

/// The cells of one record. The value is reused for every record, so that records need no allocations.
#[derive(Debug, Default)]
pub(super) struct Cells {
    places: Vec<Cell>,
    unescaped: Vec<u8>,
}

impl Cells {
    /// Returns the cells. `record` is the text that they were split from.
    pub(super) fn iter<'c>(&'c self, record: &'c [u8]) -> impl ExactSizeIterator<Item = &'c [u8]> {
        self.places.iter().map(move |cell| {
            let text = if cell.is_unescaped { &self.unescaped } else { record };
            text.get(cell.begin..cell.end).unwrap_or_default()
        })
    }

    fn push(&mut self, begin: usize, end: usize) {
        self.places.push(Cell { begin, end, is_unescaped: false });
    }

    fn push_unescaped(&mut self, quoted: &[u8]) {
        let begin = self.unescaped.len();
        let mut rest = quoted;
        while let Some((cell, behind)) = memchr(b'"', rest).and_then(|at| rest.split_at_checked(at + 1)) {
            self.unescaped.extend_from_slice(cell);
            // skips the second of the two quotes
            rest = behind.get(1..).unwrap_or_default();
        }
        self.unescaped.extend_from_slice(rest);
        self.places.push(Cell { begin, end: self.unescaped.len(), is_unescaped: true });
    }
}

/// The result of splitting the beginning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// A complete record.
    Record {
        /// The number of bytes, including the line end.
        length: usize,
        /// The number of lines; more than one if quoted cells contain line ends.
        lines: u64,
    },
    /// The quotes of the record do not match.
    Malformed(&'static str),
    /// The record may continue after the end of the text.
    Incomplete,
}

/// Returns the length of the line end at `at`: CRLF, LF or CR. Returns `None` if more text is needed to tell.
fn line_end(text: &[u8], at: usize, is_last: bool) -> Option<usize> {
    match (text.get(at), text.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Some(2),
        (Some(b'\r'), None) if !is_last => None,
        (Some(_), _) => Some(1),
        (None, _) => is_last.then_some(0),
    }
}

/// Returns the length of the first line in bytes, including its end. `is_last` is true if no text follows.
pub(super) fn first_line(text: &[u8], is_last: bool) -> Option<usize> {
    match memchr2(b'\n', b'\r', text) {
        Some(at) => line_end(text, at, is_last).map(|end| at + end),
        None => is_last.then_some(text.len()),
    }
}

/// Splits the record at the beginning of `text`. `is_last` is true if no text follows.
pub(super) fn split(text: &[u8], is_last: bool, separator: u8, cells: &mut Cells) -> Split {
    cells.places.clear();
    cells.unescaped.clear();
    let end = memchr2(b'\n', b'\r', text);
    if end.is_none() && !is_last {
        return Split::Incomplete;
    }
    let end = end.unwrap_or(text.len());
    let line = text.get(..end).unwrap_or_default();
    if memchr(b'"', line).is_some() {
        return split_quoted(text, is_last, separator, cells);
    }
    let Some(line_end) = line_end(text, end, is_last) else { return Split::Incomplete };
    let mut begin = 0;
    for at in memchr_iter(separator, line) {
        cells.push(begin, at);
        begin = at + 1;
    }
    cells.push(begin, end);
    Split::Record { length: end + line_end, lines: 1 }
}

/// Splits a record with quotes cell by cell.
fn split_quoted(text: &[u8], is_last: bool, separator: u8, cells: &mut Cells) -> Split {
    let rest = |from: usize| text.get(from..).unwrap_or_default();
    let blanks = |from: usize| {
        rest(from).iter().take_while(|byte| **byte != separator && matches!(byte, b' ' | b'\t')).count()
    };
    let (mut at, mut lines) = (0, 1);
    loop {
        let opening = at + blanks(at);
        let end = if text.get(opening) == Some(&b'"') {
            let (close, is_escaped) = match closing_quote(text, opening + 1, is_last) {
                Ok(found) => found,
                Err(split) => return split,
            };
            let quoted = text.get(opening + 1..close).unwrap_or_default();
            if is_escaped {
                cells.push_unescaped(quoted);
            } else {
                cells.push(opening + 1, close);
            }
            lines += line_ends_within(quoted);
            close + 1 + blanks(close + 1)
        } else {
            // a quote in the middle of an unquoted cell is an ordinary character
            let end = memchr3(separator, b'\n', b'\r', rest(at)).map_or(text.len(), |found| at + found);
            cells.push(at, end);
            end
        };
        match text.get(end) {
            Some(byte) if *byte == separator => at = end + 1,
            None | Some(b'\n' | b'\r') => {
                let line_end = line_end(text, end, is_last);
                return line_end
                    .map_or(Split::Incomplete, |line_end| Split::Record { length: end + line_end, lines });
            }
            Some(_) => return Split::Malformed(TEXT_BEHIND),
        }
    }
}

/// Returns the position of the quote that closes a cell, and true if there are doubled quotes before it.
fn closing_quote(text: &[u8], mut from: usize, is_last: bool) -> Result<(usize, bool), Split> {
    let mut is_escaped = false;
    loop {
        let found = text.get(from..).and_then(|rest| memchr(b'"', rest)).map(|at| from + at);
        match found.map(|at| (at, text.get(at + 1))) {
            Some((at, Some(b'"'))) => {
                is_escaped = true;
                from = at + 2;
            }
            Some((at, next)) if next.is_some() || is_last => return Ok((at, is_escaped)),
            None if is_last => return Err(Split::Malformed(NOT_CLOSED)),
            _ => return Err(Split::Incomplete),
        }
    }
}

/// Counts line ends. CRLF counts as one.
fn line_ends_within(text: &[u8]) -> u64 {
    let follows_cr = |at: usize| at.checked_sub(1).and_then(|before| text.get(before)) == Some(&b'\r');
    let is_counted = |at: usize| text.get(at) == Some(&b'\r') || !follows_cr(at);
    memchr2_iter(b'\n', b'\r', text).fold(0, |count, at| count + u64::from(is_counted(at)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(text: &str) -> Result<(Vec<String>, usize, u64), Split> {
        let mut cells = Cells::default();
        match split(text.as_bytes(), true, b',', &mut cells) {
            Split::Record { length, lines } => {
                let texts =
                    cells.iter(text.as_bytes()).map(|cell| String::from_utf8_lossy(cell).into_owned());
                Ok((texts.collect(), length, lines))
            }
            other => Err(other),
        }
    }

    fn texts(text: &str) -> Vec<String> {
        cells(text).unwrap().0
    }

    #[test]
    fn cells_end_at_separators_and_records_at_every_line_end() {
        for end in ["\n", "\r", "\r\n"] {
            let text = format!("a,,\"b, c\" ,\"d \"\"e\"\"\", \"f\n\r\r\ng\"{end}next,\"x");
            let (cells, length, lines) = cells(&text).unwrap();
            assert_eq!(cells, ["a", "", "b, c", "d \"e\"", "f\n\r\r\ng"]);
            assert_eq!((length, lines), (text.len() - 7, 4));
        }
        assert_eq!(cells("a,b").unwrap(), (vec!["a".into(), "b".into()], 3, 1));
        assert_eq!(texts("\"\",\"\"\n"), ["", ""]);
        assert_eq!(texts("Carl \"the Great\",5\" tube\n"), ["Carl \"the Great\"", "5\" tube"]);
        assert_eq!(texts("\"\"\"\"\n"), ["\""]);
    }

    #[test]
    fn a_quote_that_does_not_end_its_cell_makes_the_record_malformed() {
        for text in ["\"a", "1,\"a\n2,b\n", "\"a\"\"\n2,b\n"] {
            assert_eq!(cells(text), Err(Split::Malformed(NOT_CLOSED)), "{text:?}");
        }
        for text in ["1,\"a\"b\n", "1,\"a\n2,\"b\"\n", "\"a\" b", "\"a\"\"\n\"b"] {
            assert_eq!(cells(text), Err(Split::Malformed(TEXT_BEHIND)), "{text:?}");
        }
    }

    #[test]
    fn a_record_that_may_go_on_is_not_judged() {
        for text in ["", "a", "a,\"b", "a\r", "\"a\"", "\"a\"\r", "\"a\n\"\"", "\"a\nb"] {
            let split = split(text.as_bytes(), false, b',', &mut Cells::default());
            assert_eq!(split, Split::Incomplete, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(row in prop::collection::vec("[a\", ;\t\r\nя]{0,6}", 1..6), separator in 0..3_usize) {
            let separator = [b',', b';', b'\t'][separator];
            let quoted: Vec<_> = row.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
            let text = quoted.join(&char::from(separator).to_string()) + "\r\n79";
            let mut cells = Cells::default();
            let split = split(text.as_bytes(), true, separator, &mut cells);
            let read: Vec<_> = cells.iter(text.as_bytes()).map(|cell| std::str::from_utf8(cell).unwrap().to_owned()).collect();
            prop_assert_eq!(read, row.clone());
            let line_ends: usize = row.iter().map(|cell| cell.replace("\r\n", "\n").matches(['\r', '\n']).count()).sum();
            prop_assert_eq!(split, Split::Record { length: text.len() - 2, lines: 1 + line_ends as u64 });
        }

        #[test]
        fn no_text_makes_it_panic_or_read_beyond_its_end(text in "[a\", \r\n]{0,20}", is_last in any::<bool>()) {
            let mut cells = Cells::default();
            if let Split::Record { length, .. } = split(text.as_bytes(), is_last, b',', &mut cells) {
                prop_assert!(length <= text.len());
                prop_assert!(is_last || length > 0);
            }
        }
    }
}
