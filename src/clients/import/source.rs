//! The bytes of a file on their way to the CSV reader, with two promises that the reader cannot give by itself: a
//! record without an end does not fill the memory, and the last line ends like all others.

use std::io::{self, Read};

/// A record of more bytes than this is refused: most likely a quote was opened and never closed.
pub(super) const LARGEST_RECORD: usize = 1024 * 1024;

/// A reader that knows where records begin.
pub(super) struct Source<R> {
    inner: R,
    since_record: usize,
    last: Option<u8>,
    ended: bool,
    too_long: bool,
}

impl<R: Read> Source<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, since_record: 0, last: None, ended: false, too_long: false }
    }

    /// The CSV reader is about to read the next record.
    pub(super) fn begin_record(&mut self) {
        self.since_record = 0;
    }

    /// Whether the reader asked for more after the last line's end: a quote is still open then.
    pub(super) fn is_exhausted(&self) -> bool {
        self.ended && self.last.is_none()
    }

    /// Whether reading stopped at a record without an end.
    pub(super) fn is_too_long(&self) -> bool {
        self.too_long
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since_record > LARGEST_RECORD {
            self.too_long = true;
            return Err(io::Error::other("a record without an end"));
        }
        let count = if self.ended { 0 } else { self.inner.read(buffer)? };
        self.since_record += count;
        if let Some(byte) = count.checked_sub(1).and_then(|last| buffer.get(last)) {
            self.last = Some(*byte);
            return Ok(count);
        }
        self.ended = true;
        match (self.last.take(), buffer.first_mut()) {
            (Some(last), Some(first)) if last != b'\n' => {
                *first = b'\n';
                // the next answer is the end
                self.last = Some(b'\n');
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}
