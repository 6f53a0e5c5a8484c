//! The cells of one record.

use csv::ByteRecord;

/// The cells, without the carriage return that stands before a line's end in files from Windows. (Were the CSV reader
/// told to end records at either, it would count lines from the middle of such an end.)
pub(super) fn cells(record: &ByteRecord) -> impl Iterator<Item = &[u8]> {
    let last = record.len().saturating_sub(1);
    record.iter().enumerate().map(move |(n, cell)| {
        let ends_line = n == last;
        cell.strip_suffix(b"\r").filter(|_| ends_line).unwrap_or(cell)
    })
}

/// Whether there is nothing on the line.
pub(super) fn is_blank(record: &ByteRecord) -> bool {
    record.len() <= 1 && cells(record).all(<[u8]>::is_empty)
}

/// How many line ends stand in quotes.
pub(super) fn line_ends_within(record: &ByteRecord) -> u64 {
    record.as_slice().iter().fold(0, |n, byte| n + u64::from(*byte == b'\n'))
}
