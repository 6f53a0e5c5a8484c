//! The reading half, on a thread of its own: bytes in, chunks of checked rows out.

use std::io::{self, Read};

use tokio::sync::mpsc::Sender;

use super::Rejection;
use super::cells::is_blank;
use super::columns::{Columns, MOST_COLUMNS, shown};
use super::decode::{Text, refusal};
use super::fresh::Expectation;
use super::header;
use super::names::plain;
use super::options::{ImportOptions, MatchBy};
use super::records::{Next, Records};
use super::report::{Assumed, Warning};
use super::row::{Row, RowReader};
use crate::clients::repo::NewClients;
use crate::error::{Error, Result};

/// A chunk ends with this many records.
pub(super) const CHUNK_RECORDS: u64 = 1000;
/// Or with this many bytes, should the rows be long.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// A run of records.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    pub(super) rows: Vec<Row>,
    /// The clients that the first of the rows make, if they are expected to be new.
    pub(super) new: Option<NewClients>,
    pub(super) rejected: Vec<Rejection>,
    pub(super) rejected_rows: u64,
    pub(super) warnings: Vec<Warning>,
    /// Rows, rejected ones too.
    pub(super) records: u64,
    /// From the beginning of the file to the end of this chunk.
    pub(super) bytes: u64,
    pub(super) last_line: u64,
    /// The field by which the clients of the rows are known.
    pub(super) match_by: MatchBy,
    /// No rows follow: a row that waits for others to give something up has waited long enough.
    pub(super) is_final: bool,
}

/// What the reader has to say.
pub(super) enum Message {
    Chunk(Chunk),
    End(Box<Assumed>),
    Failed(Error),
}

/// Reads to the end, or until nobody listens any more.
pub(super) fn read(
    source: impl Read,
    options: &ImportOptions,
    expectation: Expectation,
    out: &Sender<Message>,
) {
    let opened = Reader::open(source, options, expectation);
    let last = match opened.and_then(|reader| reader.run(out)) {
        Ok(assumed) => Message::End(Box::new(assumed)),
        Err(why) => Message::Failed(why),
    };
    // nobody listens when the caller has given up: there is nobody to tell
    let _ = out.blocking_send(last);
}

struct Reader<R> {
    records: Records<R>,
    rows: RowReader,
    header_line: u64,
    expectation: Expectation,
}

impl<R: Read> Reader<R> {
    fn open(source: R, options: &ImportOptions, expectation: Expectation) -> Result<Self> {
        let mut records = Records::new(Text::new(source, options.encoding));
        let header = match records.sample() {
            Ok((sample, is_whole)) => header::find(sample, is_whole, options)?,
            Err(e) => return Err(unreadable(1, e)),
        };
        if header.names.len() > MOST_COLUMNS {
            let count = header.names.len();
            return Err(Error::invalid("columns", format!("are {count}; there can be {MOST_COLUMNS}")));
        }
        let is_there = |named: &&str| header.names.iter().any(|name| plain(name) == plain(named));
        if let Some(missing) = options.mapping.headers().find(|named| !is_there(named)) {
            let missing = shown(missing);
            return Err(Error::invalid(
                "mapping",
                format!("names the column `{missing}`, which the file does not have"),
            ));
        }
        let columns = Columns::of(&header.names, header.line, &options.mapping);
        let has = |by: &MatchBy| columns.place(by.field()).is_some();
        let match_by = options
            .match_by
            .or_else(|| MatchBy::ALL.iter().copied().find(has))
            .unwrap_or(MatchBy::PhoneNumber);
        if !has(&match_by) {
            let field = match_by.field().name();
            return Err(Error::invalid(
                field,
                "is missing: no column holds it, and clients are to be matched by it",
            ));
        }
        records.skip(header.length, header.lines, header.separator);
        let rows = RowReader { columns, match_by, is_strict: options.is_strict, separator: header.separator };
        Ok(Self { records, rows, header_line: header.line, expectation })
    }

    fn run(mut self, out: &Sender<Message>) -> Result<Assumed> {
        let mut chunk = Chunk { match_by: self.rows.match_by, ..Chunk::default() };
        chunk.warnings.append(&mut self.rows.columns.warnings);
        let mut begin = 0;
        let ending = loop {
            match self.next(&mut chunk) {
                Ok(true) => {}
                Ok(false) => break Ok(self.assumed()),
                Err(why) => break Err(why),
            }
            if chunk.records >= CHUNK_RECORDS || self.records.position() - begin >= CHUNK_BYTES {
                begin = self.records.position();
                let next = Chunk { match_by: chunk.match_by, ..Chunk::default() };
                if !self.send(std::mem::replace(&mut chunk, next), out) {
                    return Ok(self.assumed());
                }
            }
        };
        // what was read before a fault is as good as what was committed before it
        if chunk.records > 0 || !chunk.warnings.is_empty() {
            self.send(chunk, out);
        }
        ending
    }

    /// Hands a chunk on, unless nobody listens any more. Its new clients are made here, while the chunk before it is written.
    fn send(&self, mut chunk: Chunk, out: &Sender<Message>) -> bool {
        chunk.new = self.expectation.clients(&chunk.rows, chunk.match_by);
        out.blocking_send(Message::Chunk(chunk)).is_ok()
    }

    /// Reads one record into the chunk. False at the end of the file.
    fn next(&mut self, chunk: &mut Chunk) -> Result<bool> {
        let next = self.records.next(|line| self.rows.is_row(line));
        let line = self.records.record_line();
        match next {
            Ok(Next::End) => return Ok(false),
            Err(e) => return Err(unreadable(line, e)),
            Ok(Next::Record) if self.records.cells().all(is_blank) => return Ok(true),
            Ok(Next::Record) => match self.rows.read(self.records.cells(), line, &mut chunk.warnings) {
                Ok(row) => chunk.rows.push(row),
                Err(complaints) => {
                    chunk.rejected_rows += 1;
                    chunk.rejected.extend(complaints);
                }
            },
            Ok(Next::Malformed(why)) => {
                chunk.rejected_rows += 1;
                chunk.rejected.push(Rejection { line, field: "row".into(), reason: why.into() });
            }
        }
        chunk.records += 1;
        chunk.bytes = self.records.bytes();
        chunk.last_line = self.records.last_line();
        Ok(true)
    }

    fn assumed(&mut self) -> Assumed {
        Assumed {
            encoding: self.records.encoding().name().into(),
            separator: char::from(self.rows.separator).into(),
            line_ends: self.records.line_ends().into(),
            header_line: self.header_line,
            match_by: self.rows.match_by.field().name().into(),
            mapping: std::mem::take(&mut self.rows.columns.mapping),
        }
    }
}

fn unreadable(line: u64, error: io::Error) -> Error {
    let is_slow = error.kind() == io::ErrorKind::TimedOut;
    let why = match refusal(error) {
        Ok(refused @ (Error::Invalid(_) | Error::Unsupported(_) | Error::TooLarge(_))) => return refused,
        Ok(error) => format!("the file could not be read beyond line {line}: {error}"),
        Err(error) => format!("the file could not be read beyond line {line}: {error}"),
    };
    if is_slow { Error::TooSlow(why) } else { Error::Malformed(why) }
}

#[cfg(test)]
mod tests;
