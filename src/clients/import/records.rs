//! Reads the records of a file in bounded memory: an unterminated record costs one line of the file, and not the rest
//! of it.

use std::io::{self, Read};

use encoding_rs::Encoding;

use super::decode::Utf8Text;
use super::split::{Cells, NOT_CLOSED, Split, first_line, split};
use crate::error::Error;

/// The largest size of a record in bytes; a larger one is refused.
pub(super) const LARGEST_RECORD: usize = 1024 * 1024;
/// The largest size of a line in bytes. A longer one ends the import, because a file without line ends is not a table.
const LONGEST_LINE: usize = 16 * LARGEST_RECORD;
/// The initial size of the buffer in bytes.
const BUFFER: usize = 64 * 1024;
/// The number of lines in which the separator and the header are detected.
const SAMPLE_LINES: usize = 64;

const TOO_LONG: &str = "the line is longer than 1 MiB";
const STRAY: &str =
    "a quote is opened in this line and closed in another row; double it within a quoted cell";

/// The result of reading a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A record, whose cells [`Records::cells`] returns.
    Record,
    /// A line that cannot be split. The next record begins on the next line.
    Malformed(&'static str),
    End,
}

/// The kinds of line ends seen so far.
#[derive(Debug, Clone, Copy, Default)]
struct LineEnds {
    lf: bool,
    cr: bool,
    crlf: bool,
}

/// A reader of records.
pub(super) struct Records<R> {
    text: Utf8Text<R>,
    buffer: Vec<u8>,
    /// The start of the unread part of the buffer.
    begin: usize,
    end: usize,
    is_ended: bool,
    separator: u8,
    cells: Cells,
    /// The range of the record in the buffer.
    record: (usize, usize),
    record_line: u64,
    line: u64,
    line_ends: LineEnds,
    /// The number of bytes of the text before the unread part.
    position: u64,
}

impl<R: Read> Records<R> {
    pub(super) fn new(text: Utf8Text<R>) -> Self {
        Self {
            text,
            buffer: vec![0; BUFFER],
            begin: 0,
            end: 0,
            is_ended: false,
            separator: b',',
            cells: Cells::default(),
            record: (0, 0),
            record_line: 1,
            line: 1,
            line_ends: LineEnds::default(),
            position: 0,
        }
    }

    /// Reads the first lines without consuming them. Returns them, and true if the file has no more lines.
    pub(super) fn sample(&mut self) -> io::Result<(&[u8], bool)> {
        let is_enough = |unread: &[u8]| {
            unread.len() >= BUFFER || memchr::memchr2_iter(b'\n', b'\r', unread).nth(SAMPLE_LINES).is_some()
        };
        while !self.is_ended && !is_enough(self.unread()) {
            self.fill(1)?;
        }
        Ok((self.unread(), self.is_ended))
    }

    /// Skips the header.
    pub(super) fn skip(&mut self, length: usize, lines: u64, separator: u8) {
        self.note_line_end(self.begin + length);
        self.take(length, lines);
        self.separator = separator;
    }

    /// Reads the next record. `is_row` returns true if a line looks like a complete row.
    pub(super) fn next(&mut self, is_row: impl Fn(&[u8]) -> bool) -> io::Result<Next> {
        loop {
            if self.begin == self.end && self.is_ended {
                return Ok(Next::End);
            }
            self.record_line = self.line;
            let unread = self.buffer.get(self.begin..self.end).unwrap_or_default();
            match split(unread, self.is_ended, self.separator, &mut self.cells) {
                Split::Record { length, lines } => {
                    let record = unread.get(..length).unwrap_or_default();
                    if lines > 1 && is_within(record, is_row) {
                        return self.skip_line(STRAY);
                    }
                    self.record = (self.begin, self.begin + length);
                    self.note_line_end(self.begin + length);
                    self.take(length, lines);
                    return Ok(Next::Record);
                }
                Split::Malformed(why) => return self.skip_line(why),
                Split::Incomplete if unread.len() > LARGEST_RECORD => return self.skip_line(NOT_CLOSED),
                // a long record is split again only after a good part more of it has been read
                Split::Incomplete => self.fill(unread.len() / 4)?,
            }
        }
    }

    /// Returns the cells of the record.
    pub(super) fn cells(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.cells.iter(self.buffer.get(self.record.0..self.record.1).unwrap_or_default())
    }

    /// Returns the line on which the record begins.
    pub(super) fn record_line(&self) -> u64 {
        self.record_line
    }

    /// Returns the last line that was read.
    pub(super) fn last_line(&self) -> u64 {
        self.line - 1
    }

    /// Returns the number of bytes of the decoded text that were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the number of bytes of the file that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.text.bytes_read()
    }

    /// Returns the encoding of the file.
    pub(super) fn encoding(&self) -> &'static Encoding {
        self.text.encoding()
    }

    /// Returns the kind of the file's line ends.
    pub(super) fn line_ends(&self) -> &'static str {
        match self.line_ends {
            LineEnds { lf: true, cr: false, crlf: false } => "LF",
            LineEnds { lf: false, cr: true, crlf: false } => "CR",
            LineEnds { lf: false, cr: false, crlf: true } => "CRLF",
            LineEnds { lf: false, cr: false, crlf: false } => "none",
            _ => "mixed",
        }
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.begin..self.end).unwrap_or_default()
    }

    fn take(&mut self, length: usize, lines: u64) {
        self.begin += length;
        self.line += lines;
        self.position += u64::try_from(length).unwrap_or_default();
    }

    fn note_line_end(&mut self, end: usize) {
        let before = |count: usize| end.checked_sub(count).and_then(|at| self.buffer.get(at));
        match (before(2), before(1)) {
            (Some(b'\r'), Some(b'\n')) => self.line_ends.crlf = true,
            (_, Some(b'\n')) => self.line_ends.lf = true,
            (_, Some(b'\r')) => self.line_ends.cr = true,
            _ => {}
        }
    }

    /// Skips to the next line, over a line of any length.
    fn skip_line(&mut self, why: &'static str) -> io::Result<Next> {
        let mut passed = 0;
        loop {
            if let Some(length) = first_line(self.unread(), self.is_ended) {
                self.take(length, 1);
                return Ok(Next::Malformed(if passed > 0 { TOO_LONG } else { why }));
            }
            // all but the last byte, which may be the CR of a CRLF
            let length = self.unread().len().saturating_sub(1);
            passed += length.max(1);
            if passed > LONGEST_LINE {
                let why = "is longer than 16 MiB; the file may not be a table";
                return Err(io::Error::other(Error::invalid(format!("line {}", self.line), why)));
            }
            self.take(length, 0);
            self.fill(1)?;
        }
    }

    /// Reads at least `least` more bytes, and at least one, or to the end.
    fn fill(&mut self, least: usize) -> io::Result<()> {
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        let wanted = self.end + least.max(1);
        while self.end < wanted && !self.is_ended {
            if self.buffer.len() < self.end + BUFFER / 2 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            match self.text.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => self.is_ended = true,
                Ok(count) => self.end += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Returns true if a line after the first looks like a row.
fn is_within(record: &[u8], is_row: impl Fn(&[u8]) -> bool) -> bool {
    let lines = record.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.skip(1).filter(|line| !line.is_empty()).any(is_row)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of a row and its cells.
    type Line = (u64, Vec<String>);

    /// Returns the rows with their lines, and the malformed lines.
    fn read(text: &str) -> (Vec<Line>, Vec<u64>) {
        let mut records = Records::new(Utf8Text::new(text.as_bytes(), None));
        let (mut rows, mut malformed) = (Vec::new(), Vec::new());
        loop {
            match records.next(|line| line.starts_with(b"79") && line.contains(&b',')).unwrap() {
                Next::Record => {
                    let cells = records.cells().map(|cell| String::from_utf8_lossy(cell).into_owned());
                    rows.push((records.record_line(), cells.collect()));
                }
                Next::Malformed(_) => malformed.push(records.record_line()),
                Next::End => break,
            }
        }
        assert_eq!(records.position(), text.len() as u64);
        (rows, malformed)
    }

    fn rows_of(rows: &[Line]) -> Vec<(u64, &str)> {
        rows.iter().map(|(line, cells)| (*line, cells.last().unwrap().as_str())).collect()
    }

    #[test]
    fn a_stray_quote_costs_its_own_row() {
        for (text, stored, rejected) in [
            (
                "791,\"Anna\n792,Boris\n793,Carl \"the Great\"\n794,Dan\n",
                &[(2, "Boris"), (3, "Carl \"the Great\""), (4, "Dan")][..],
                &[1][..],
            ),
            ("795,\"TV 42\"\"\n796,Eva\n", &[(2, "Eva")], &[1]),
            ("797,\"Anna\"Ivanova\n798,\"a \"\"b\"\" c\"\n", &[(2, "a \"b\" c")], &[1]),
            // closed by the quote of another row, which is valid CSV
            ("791,\"\n792,\"\n793,Eva\n", &[(3, "Eva")], &[1, 2]),
            ("791,\"Anna\n792,Boris\"\n793,Eva", &[(2, "Boris\""), (3, "Eva")], &[1]),
            ("791,\"a\r\n\r\nb\"\r\n792,x\r\n", &[(1, "a\r\n\r\nb"), (4, "x")], &[]),
        ] {
            let (rows, malformed) = read(text);
            assert_eq!((rows_of(&rows).as_slice(), malformed.as_slice()), (stored, rejected), "{text:?}");
        }
    }

    #[test]
    fn a_record_without_an_end_costs_a_line_and_no_memory() {
        let long = "x".repeat(3 * LARGEST_RECORD);
        let open = format!("791,\"{}\n{}792,Boris\n", "y".repeat(70_000), "no row\n".repeat(200_000));
        let (rows, malformed) = read(&open);
        assert_eq!((rows.len(), malformed), (200_001, vec![1]));
        let (rows, malformed) = read(&format!("791,{long}\r\n792,Boris\r\n{long}"));
        assert_eq!((rows_of(&rows), malformed), (vec![(2, "Boris")], vec![1, 3]));
    }

    #[test]
    fn line_ends_are_told_apart() {
        for (text, found) in
            [("a\nb\n", "LF"), ("a\r\nb", "CRLF"), ("a\rb\r", "CR"), ("a\nb\r\n", "mixed"), ("a", "none")]
        {
            let mut records = Records::new(Utf8Text::new(text.as_bytes(), None));
            while records.next(|_| false).unwrap() != Next::End {}
            assert_eq!(records.line_ends(), found, "{text:?}");
        }
    }
}
