//! The reading half of the import, on a separate thread: it turns bytes into chunks of validated rows.

use std::io::{self, Read};

use tokio::sync::mpsc::Sender;

use super::cells::is_blank;
use super::chunk::Chunk;
use super::columns::{FileColumns, MOST_COLUMNS, shown};
use super::decode::{Utf8Text, refusal};
use super::fresh::Expectation;
use super::header;
use super::names::plain;
use super::options::{ImportOptions, MatchBy};
use super::records::{Next, Records};
use super::report::{Assumed, Rejection};
use super::row::RowReader;
use crate::error::{Error, Result};

/// The largest number of records of a chunk.
pub(super) const CHUNK_RECORDS: u64 = 1000;
/// The size in bytes at which a chunk of long rows ends earlier.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// A message of the reader.
pub(super) enum ReaderMessage {
    Chunk(Chunk),
    End(Box<Assumed>),
    Failed(Error),
}

/// Reads to the end of the source, or until the receiver is dropped.
pub(super) fn read(
    source: impl Read,
    options: &ImportOptions,
    expectation: Expectation,
    out: &Sender<ReaderMessage>,
) {
    let opened = ChunkReader::open(source, options, expectation);
    let last = match opened.and_then(|reader| reader.run(out)) {
        Ok(assumed) => ReaderMessage::End(Box::new(assumed)),
        Err(why) => ReaderMessage::Failed(why),
    };
    // an error means that the receiver is gone, because the caller has given up
    let _ = out.blocking_send(last);
}

struct ChunkReader<R> {
    records: Records<R>,
    rows: RowReader,
    header_line: u64,
    expectation: Expectation,
}

impl<R: Read> ChunkReader<R> {
    fn open(source: R, options: &ImportOptions, expectation: Expectation) -> Result<Self> {
        let mut records = Records::new(Utf8Text::new(source, options.encoding));
        let header = match records.sample() {
            Ok((sample, is_whole)) => header::find(sample, is_whole, options)?,
            Err(e) => return Err(unreadable(1, e)),
        };
        if header.names.len() > MOST_COLUMNS {
            let count = header.names.len();
            return Err(Error::invalid(
                "columns",
                format!("are {count}; at most {MOST_COLUMNS} are allowed"),
            ));
        }
        let is_there = |named: &&str| header.names.iter().any(|name| plain(name) == plain(named));
        if let Some(missing) = options.mapping.headers().find(|named| !is_there(named)) {
            let missing = shown(missing);
            return Err(Error::invalid(
                "mapping",
                format!("names the column `{missing}`, which the file does not have"),
            ));
        }
        let columns = FileColumns::of(&header.names, header.line, &options.mapping);
        let has = |by: &MatchBy| columns.place(by.field()).is_some();
        let match_by = options
            .match_by
            .or_else(|| MatchBy::ALL.iter().copied().find(has))
            .unwrap_or(MatchBy::PhoneNumber);
        if !has(&match_by) {
            let field = match_by.field().name();
            return Err(Error::invalid(
                field,
                "is missing: clients are matched by it, and the file has no column for it",
            ));
        }
        records.skip(header.length, header.lines, header.separator);
        let rows = RowReader { columns, match_by, is_strict: options.is_strict, separator: header.separator };
        Ok(Self { records, rows, header_line: header.line, expectation })
    }

    fn run(mut self, out: &Sender<ReaderMessage>) -> Result<Assumed> {
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
        // rows that were read before an error are stored, as those in earlier chunks are
        if chunk.records > 0 || !chunk.warnings.is_empty() {
            self.send(chunk, out);
        }
        ending
    }

    /// Sends a chunk; returns false if the receiver is gone. The new clients are prepared here, while the previous
    /// chunk is written.
    fn send(&self, mut chunk: Chunk, out: &Sender<ReaderMessage>) -> bool {
        chunk.new = self.expectation.clients(&chunk.rows, chunk.match_by);
        out.blocking_send(ReaderMessage::Chunk(chunk)).is_ok()
    }

    /// Reads one record into the chunk. Returns false at the end of the file.
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
        Ok(error) => format!("the file could not be read past line {line}: {error}"),
        Err(error) => format!("the file could not be read past line {line}: {error}"),
    };
    if is_slow { Error::TooSlow(why) } else { Error::Malformed(why) }
}

#[cfg(test)]
mod tests;
