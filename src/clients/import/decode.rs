//! Decodes a file of any encoding to UTF-8.

use std::io::{self, Read};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8};

use super::encoding;
use crate::error::Error;

/// The number of bytes of one read.
const BLOCK: usize = 64 * 1024;
/// The number of leading bytes that identify the format.
const HEAD: usize = 512;
/// The number of bytes, from the first non-ASCII word on, from which the encoding is guessed.
const SAMPLE: usize = 64 * 1024;

/// The state of the decoder.
enum DecoderState {
    /// The byte order mark has not been checked yet.
    Start,
    /// Only ASCII so far, which is equal in all remaining encodings.
    Ascii,
    Utf8,
    Other(Box<Decoder>),
}

/// A reader that returns the file as UTF-8. Invalid UTF-8 is passed through; invalid bytes of other encodings become
/// U+FFFD.
pub(super) struct Utf8Text<R> {
    inner: R,
    /// The bytes that were read; those from `begin` on are not decoded yet.
    raw: Vec<u8>,
    begin: usize,
    is_ended: bool,
    state: DecoderState,
    named: Option<&'static Encoding>,
    encoding: &'static Encoding,
    bytes: u64,
}

impl<R: Read> Utf8Text<R> {
    /// Creates a reader. `named` is the encoding that the sender specified; a byte order mark takes precedence over it.
    pub(super) fn new(inner: R, named: Option<&'static Encoding>) -> Self {
        let raw = Vec::with_capacity(BLOCK);
        let encoding = named.unwrap_or(UTF_8);
        Self { inner, raw, begin: 0, is_ended: false, state: DecoderState::Start, named, encoding, bytes: 0 }
    }

    /// Returns the encoding as detected so far.
    pub(super) fn encoding(&self) -> &'static Encoding {
        self.encoding
    }

    /// Returns the number of bytes read from the file.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes
    }

    fn waiting(&self) -> &[u8] {
        self.raw.get(self.begin..).unwrap_or_default()
    }

    /// Reads until at least `least` undecoded bytes are buffered, or the file ends.
    fn gather(&mut self, least: usize) -> io::Result<()> {
        while self.waiting().len() < least && !self.is_ended {
            self.raw.drain(..self.begin);
            self.begin = 0;
            let length = self.raw.len();
            self.raw.resize(length + BLOCK, 0);
            let room = self.raw.get_mut(length..).unwrap_or_default();
            let read = self.inner.read(room);
            let count = read.as_ref().map_or(0, |count| *count);
            self.raw.truncate(length + count);
            match read {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => self.is_ended = read? == 0,
            }
            self.bytes += u64::try_from(count).unwrap_or_default();
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        self.gather(HEAD)?;
        let head = self.waiting();
        let head = head.get(..HEAD).unwrap_or(head);
        encoding::refuse_binary(head).map_err(io::Error::other)?;
        if let Some((marked, length)) = Encoding::for_bom(head) {
            self.begin += length;
            self.read_as(marked);
        } else if let Some(found) = self.named.or_else(|| encoding::utf16(head)) {
            self.read_as(found);
        } else {
            self.state = DecoderState::Ascii;
        }
        Ok(())
    }

    fn read_as(&mut self, encoding: &'static Encoding) {
        self.encoding = encoding;
        self.state = if encoding == UTF_8 {
            DecoderState::Utf8
        } else {
            DecoderState::Other(Box::new(encoding.new_decoder_without_bom_handling()))
        };
    }

    /// Copies up to `most` buffered bytes to `out` without decoding.
    fn hand_on(&mut self, out: &mut [u8], most: usize) -> usize {
        let count = most.min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..count), self.raw.get(self.begin..self.begin + count)) {
            to.copy_from_slice(from);
        }
        self.begin += count;
        count
    }
}

impl<R: Read> Read for Utf8Text<R> {
    /// Reads decoded text. `out` must have room for at least a few characters.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if matches!(self.state, DecoderState::Start) {
                self.start()?;
            }
            self.gather(1)?;
            let waiting = self.raw.get(self.begin..).unwrap_or_default();
            match &mut self.state {
                DecoderState::Start => {}
                DecoderState::Utf8 => return Ok(self.hand_on(out, waiting.len())),
                DecoderState::Ascii => match ascii_words(waiting) {
                    0 if !waiting.is_empty() => {
                        self.gather(SAMPLE)?;
                        let sample = self.waiting();
                        self.read_as(encoding::guess(sample.get(..SAMPLE).unwrap_or(sample)));
                    }
                    ascii => return Ok(self.hand_on(out, ascii)),
                },
                DecoderState::Other(decoder) => {
                    let is_last = self.is_ended;
                    let (result, read, written, _) = decoder.decode_to_utf8(waiting, out, is_last);
                    self.begin += read;
                    if is_last && result == CoderResult::InputEmpty {
                        // a finished decoder must not be called again, and nothing is left to decode
                        self.state = DecoderState::Utf8;
                        return Ok(written);
                    }
                    if written > 0 {
                        return Ok(written);
                    }
                    // a partial character needs more bytes
                    if !is_last && self.begin == self.raw.len() {
                        self.gather(1)?;
                    }
                }
            }
        }
    }
}

/// Returns the number of leading ASCII bytes, without the beginning of a non-ASCII word.
fn ascii_words(text: &[u8]) -> usize {
    let ascii = Encoding::ascii_valid_up_to(text);
    let (before, behind) = text.split_at_checked(ascii).unwrap_or((text, &[]));
    if behind.is_empty() {
        return ascii;
    }
    ascii - before.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count()
}

/// Returns the error with which [`Utf8Text`] refused a file, or else the I/O error.
pub(super) fn refusal(error: io::Error) -> Result<Error, io::Error> {
    error.downcast::<Error>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A reader that returns a few bytes at a time.
    struct Drip<'b>(&'b [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            let (now, later) = self.0.split_at(count);
            out[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn read(bytes: &[u8], step: usize, named: Option<&str>) -> io::Result<(String, &'static str)> {
        let named = named.map(|label| encoding::labelled(label).unwrap());
        let mut text = Utf8Text::new(Drip(bytes, step), named);
        let (mut all, mut part) = (Vec::new(), [0; 61]);
        loop {
            match text.read(&mut part)? {
                0 => break,
                count => all.extend_from_slice(&part[..count]),
            }
        }
        assert_eq!(text.bytes_read(), bytes.len() as u64);
        Ok((String::from_utf8_lossy(&all).into_owned(), text.encoding().name()))
    }

    fn written(text: &str, encoding: &str, has_mark: bool) -> Vec<u8> {
        let units = |order: fn(u16) -> [u8; 2]| {
            let mark = has_mark.then_some('\u{feff}').into_iter();
            mark.chain(text.chars()).collect::<String>().encode_utf16().flat_map(order).collect()
        };
        match encoding {
            "UTF-16LE" => units(u16::to_le_bytes),
            "UTF-16BE" => units(u16::to_be_bytes),
            "UTF-8" if has_mark => format!("\u{feff}{text}").into_bytes(),
            label => encoding::labelled(label).unwrap().encode(text).0.into_owned(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_encoding_comes_to_the_same_text(
            names in prop::collection::vec("Анна|Борис|Ольга Петрова|Щука|Иван", 1..40), step in 1_usize..600, has_mark in any::<bool>(),
        ) {
            let text = format!("phone_number;name\r\n{}", names.iter().map(|n| format!("79031234567;{n}\r\n")).collect::<String>());
            for encoding in ["UTF-8", "UTF-16LE", "UTF-16BE", "windows-1251"] {
                let bytes = written(&text, encoding, has_mark);
                prop_assert_eq!(read(&bytes, step, None).unwrap(), (text.clone(), encoding));
                prop_assert_eq!(read(&bytes, step, Some(encoding)).unwrap(), (text.clone(), encoding));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..700), step in 1_usize..600) {
            let _ = read(&bytes, step, None);
        }
    }

    #[test]
    fn a_long_beginning_in_ascii_does_not_decide() {
        let text = format!("phone_number,name\n{}79031234568,Müller\n", "79031234567,Bob\n".repeat(9000));
        let bytes = written(&text, "windows-1252", false);
        assert_eq!(read(&bytes, 4096, None).unwrap(), (text, "windows-1252"));
    }

    #[test]
    fn a_mark_is_believed_before_a_name() {
        let bytes = written("имя", "UTF-8", true);
        assert_eq!(read(&bytes, 2, Some("windows-1251")).unwrap(), ("имя".into(), "UTF-8"));
        let why = read(b"PK\x03\x04", 9, None).unwrap_err();
        assert!(matches!(refusal(why), Ok(Error::Unsupported(_))));
    }
}
