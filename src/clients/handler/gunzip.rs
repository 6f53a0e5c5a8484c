//! Bodies with `Content-Encoding: gzip`, decompressed as they arrive.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

use crate::error::Error;

/// The decompressed size up to which the ratio is not checked.
const FREE: u64 = 16 * 1024 * 1024;
/// The largest ratio of decompressed to compressed bytes beyond that size. Tables of people stay below 50.
const MOST_PER_BYTE: u64 = 200;

/// A decompressor that stops at decompression bombs.
pub(super) struct Gunzip<R> {
    /// The source until the first read: creating the decoder reads the gzip header, and the creator of this must not
    /// block.
    source: Option<Counted<R>>,
    decoder: Option<MultiGzDecoder<Counted<R>>>,
    unpacked: u64,
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += u64::try_from(count).unwrap_or_default();
        Ok(count)
    }
}

impl<R: Read> Gunzip<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { source: Some(Counted { inner, count: 0 }), decoder: None, unpacked: 0 }
    }
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(source) = self.source.take() {
            self.decoder = Some(MultiGzDecoder::new(source));
        }
        let Some(decoder) = &mut self.decoder else { return Ok(0) };
        let count = decoder.read(buffer)?;
        self.unpacked += u64::try_from(count).unwrap_or_default();
        if self.unpacked > FREE && self.unpacked > MOST_PER_BYTE * decoder.get_ref().count {
            let why =
                format!("the body expands to more than {MOST_PER_BYTE} times its size; send it uncompressed");
            return Err(io::Error::other(Error::TooLarge(why)));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn parts_that_were_packed_apart_are_one_file() {
        let mut body = packed(b"phone_number\n");
        body.extend(packed(b"79031234567\n"));
        let mut text = String::new();
        Gunzip::new(body.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "phone_number\n79031234567\n");
        assert!(Gunzip::new(&body[..20]).read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn what_expands_without_end_is_refused() {
        let bomb = packed(&vec![b'x'; 64 * 1024 * 1024]);
        let why = io::copy(&mut Gunzip::new(bomb.as_slice()), &mut io::sink()).unwrap_err();
        assert!(matches!(why.downcast(), Ok(Error::TooLarge(_))));
    }
}
