//! The reading half, on a thread of its own: bytes in, chunks of checked rows out.

use std::io::{self, Read};

use csv::{ByteRecord, Terminator};
use tokio::sync::mpsc::Sender;

use super::Rejection;
use super::cells::{cells, is_blank, line_ends_within};
use super::columns::{self, Column};
use super::source::{LARGEST_RECORD, Source};
use crate::clients::model::{AttributeValue, ClientPatch, PhoneNumber};
use crate::error::{Complaints, Error, Result};
use crate::sheet;

/// A chunk ends with this many records.
pub(super) const CHUNK_RECORDS: u64 = 1000;
/// Or with this many bytes, should the rows be long.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// A row that is right in itself.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) number: PhoneNumber,
    /// Without the number, which says whose row it is.
    pub(super) patch: ClientPatch,
}

/// A run of records.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) rows: Vec<Row>,
    pub(super) rejected: Vec<Rejection>,
    pub(super) rejected_rows: u64,
    /// Rows, rejected ones too.
    pub(super) records: u64,
    /// From the beginning of the file to the end of this chunk.
    pub(super) bytes: u64,
    pub(super) last_line: u64,
}

/// What the reader has to say.
pub(super) enum Message {
    Chunk(Chunk),
    End,
    Failed(Error),
}

/// Reads to the end, or until nobody listens any more.
pub(super) fn read(source: impl Read, out: &Sender<Message>) {
    let last = match Reader::open(source).and_then(|reader| reader.run(out)) {
        Ok(()) => Message::End,
        Err(why) => Message::Failed(why),
    };
    // nobody listens when the caller has given up: there is nobody to tell
    let _ = out.blocking_send(last);
}

struct Reader<R> {
    csv: csv::Reader<Source<R>>,
    columns: Vec<Column>,
}

impl<R: Read> Reader<R> {
    fn open(source: R) -> Result<Self> {
        let csv = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(64 * 1024)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(Source::new(source));
        let mut reader = Self { csv, columns: Vec::new() };
        let mut header = ByteRecord::new();
        reader.next(&mut header)?;
        reader.columns = columns::parse(&header)?;
        Ok(reader)
    }

    fn run(mut self, out: &Sender<Message>) -> Result<()> {
        let mut record = ByteRecord::new();
        let mut chunk = Chunk::default();
        let mut begin = 0;
        let ending = loop {
            let line = match self.next(&mut record) {
                Ok(Some(line)) => line,
                Ok(None) => break Ok(()),
                Err(why) => break Err(why),
            };
            chunk.bytes = self.csv.position().byte();
            chunk.last_line = self.csv.position().line() - 1;
            chunk.records += 1;
            match self.row(&record, line) {
                Ok(row) => chunk.rows.push(row),
                Err(complaints) => {
                    chunk.rejected_rows += 1;
                    chunk.rejected.extend(complaints);
                }
            }
            if chunk.records >= CHUNK_RECORDS || chunk.bytes - begin >= CHUNK_BYTES {
                begin = chunk.bytes;
                if out.blocking_send(Message::Chunk(std::mem::take(&mut chunk))).is_err() {
                    return Ok(());
                }
            }
        };
        // what was read before a fault is as good as what was committed before it
        if chunk.records > 0 {
            let _ = out.blocking_send(Message::Chunk(chunk));
        }
        ending
    }

    /// Reads the next record that is not blank, and answers the line that it begins on.
    fn next(&mut self, record: &mut ByteRecord) -> Result<Option<u64>> {
        loop {
            self.csv.get_mut().begin_record();
            let line = self.csv.position().line();
            if !self.csv.read_byte_record(record).map_err(|e| self.unreadable(line, e))? {
                return Ok(None);
            }
            if self.csv.get_ref().is_exhausted() {
                return Err(Error::invalid(
                    format!("line {line}"),
                    "a quote is opened in this row and not closed before the end of the file",
                ));
            }
            if !is_blank(record) {
                // counted from its end: the CSV reader takes blank lines before a record for a part of it
                return Ok(Some(self.csv.position().line() - 1 - line_ends_within(record)));
            }
        }
    }

    fn unreadable(&self, line: u64, error: csv::Error) -> Error {
        if self.csv.get_ref().is_too_long() {
            return Error::invalid(
                format!("line {line}"),
                format!(
                    "the row is longer than {LARGEST_RECORD} bytes: is a quote opened in it and not closed?"
                ),
            );
        }
        let is_slow = matches!(error.kind(), csv::ErrorKind::Io(e) if e.kind() == io::ErrorKind::TimedOut);
        let why = format!("the file could not be read beyond line {line}: {error}");
        if is_slow { Error::TooSlow(why) } else { Error::Malformed(why) }
    }

    fn row(&self, record: &ByteRecord, line: u64) -> std::result::Result<Row, Vec<Rejection>> {
        let mut wrong = Complaints::default();
        let mut patch = ClientPatch::default();
        if record.len() == self.columns.len() {
            for (column, cell) in self.columns.iter().zip(cells(record)) {
                wrong.check(column.name(), fill(&mut patch, column, cell));
            }
        } else {
            let (has, should) = (record.len(), self.columns.len());
            wrong.add("row", format!("has {has} cells, the first line has {should}"));
        }
        match (wrong.finish(), patch.phone_number.take()) {
            (Ok(()), Some(number)) => {
                if patch.mobile_operator_code == Some(None) {
                    patch.mobile_operator_code = Some(number.operator_code());
                }
                Ok(Row { line, number, patch })
            }
            (Err(Error::Invalid(fields)), _) => Err(fields
                .into_iter()
                .map(|e| Rejection { line, field: e.field, reason: e.reason })
                .collect()),
            (other, _) => {
                let reason = other.err().map_or_else(|| "has no phone number".into(), |e| e.to_string());
                Err(vec![Rejection { line, field: "row".into(), reason }])
            }
        }
    }
}

fn fill(patch: &mut ClientPatch, column: &Column, cell: &[u8]) -> std::result::Result<(), &'static str> {
    let text = sheet::unguard(std::str::from_utf8(cell).map_err(|_| "is not UTF-8")?);
    match column {
        Column::Field(field) => patch.set(*field, Some(text).filter(|text| !text.trim().is_empty())),
        Column::Attribute(name) => {
            let value = if text.is_empty() { None } else { Some(AttributeValue::text(text)?) };
            patch.attributes.push((name.clone(), value));
            Ok(())
        }
    }
}
