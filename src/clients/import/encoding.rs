//! Detection of a file's encoding, and of files that are not text.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, ISO_8859_5, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1251, WINDOWS_1252};

use crate::error::{Error, Result};

/// Returns the encoding with a label, for example the `charset` of a content type.
///
/// # Errors
/// The label is unknown; the message lists common ones.
pub fn labelled(label: &str) -> Result<&'static Encoding, &'static str> {
    Encoding::for_label(label.trim().trim_matches('"').as_bytes()).filter(|found| is_text(found)).ok_or(
        "must be an encoding of the WHATWG Encoding Standard, like utf-8, utf-16le, windows-1251 or windows-1252",
    )
}

/// Returns false for the replacement encoding, which the standard assigns to encodings that are not safe to decode.
fn is_text(encoding: &'static Encoding) -> bool {
    encoding != encoding_rs::REPLACEMENT
}

/// Refuses a file that is not text, by its first bytes.
///
/// # Errors
/// [`Error::Unsupported`], with the name of the format and the remedy.
pub(super) fn refuse_binary(head: &[u8]) -> Result<()> {
    let contains = |word: &str| memchr::memmem::find(head, word.as_bytes()).is_some();
    let what = match head {
        [b'P', b'K', 3, 4, ..] if contains("opendocument.spreadsheet") => {
            "is an OpenDocument spreadsheet (ods); save it as CSV"
        }
        [b'P', b'K', 3, 4, ..]
            if ["[Content_Types].xml", "xl/", "_rels/", "docProps/"].iter().any(|part| contains(part)) =>
        {
            "is an Excel workbook (xlsx); save it as CSV UTF-8"
        }
        [b'P', b'K', 3 | 5, 4 | 6, ..] => "is a zip archive; send the CSV file that it contains",
        [0x1f, 0x8b, ..] => {
            "is gzip; send it with Content-Encoding: gzip, or decompress it (gunzip -c FILE | fanfare import -)"
        }
        [0xd0, 0xcf, 0x11, 0xe0, ..] => "is an old Excel workbook (xls); save it as CSV UTF-8",
        [b'%', b'P', b'D', b'F', ..] => "is a PDF; export the table as CSV",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "is compressed with Zstandard; decompress it",
        [b'B', b'Z', b'h', ..] => "is compressed with bzip2; decompress it",
        _ => return Ok(()),
    };
    Err(Error::Unsupported(format!("the file {what}")))
}

/// Detects UTF-16 by its zero bytes: every digit, separator and line end contains one, and other encodings have none.
pub(super) fn utf16(head: &[u8]) -> Option<&'static Encoding> {
    let zeros = |of: usize| head.iter().skip(of).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let units = head.len() / 2;
    if even + odd < 2 || (even + odd) * 8 < units {
        return None;
    }
    match (even, odd) {
        _ if odd >= 9 * even => Some(UTF_16LE),
        _ if even >= 9 * odd => Some(UTF_16BE),
        _ => None,
    }
}

/// Guesses the encoding from a part of the file that contains non-ASCII bytes.
pub(super) fn guess(text: &[u8]) -> &'static Encoding {
    if is_utf8(text) {
        return UTF_8;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(text, true);
    match detector.guess(None, Utf8Detection::Deny) {
        // spreadsheets do not write ISO 8859-5, but a few words in windows-1251 look like it
        found if found == ISO_8859_5 => WINDOWS_1251,
        found if found == WINDOWS_1252 && has_whole_words(text) => WINDOWS_1251,
        found => found,
    }
}

/// Returns true if the text is UTF-8, perhaps with a few broken characters, which spoil only their cells.
fn is_utf8(text: &[u8]) -> bool {
    let (mut right, mut broken) = (0, 0);
    for chunk in text.utf8_chunks() {
        right += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    // the last character may be cut off
    let is_cut = matches!(std::str::from_utf8(text), Err(e) if e.error_len().is_none());
    broken == usize::from(is_cut) || right > 8 * broken
}

/// Returns true if most non-ASCII words contain no ASCII letter: in windows-1252 hardly any word is like that, in
/// windows-1251 all are. The detector takes short words in capitals for Western.
fn has_whole_words(text: &[u8]) -> bool {
    let (mut whole, mut mixed) = (0_usize, 0_usize);
    for word in text.split(|byte| !byte.is_ascii_alphabetic() && *byte < 0xc0 && !matches!(byte, 0xa8 | 0xb8))
    {
        match word.iter().filter(|byte| !byte.is_ascii()).count() {
            0 => {}
            1 if word.len() == 1 => {}
            count if count == word.len() => whole += 1,
            _ => mixed += 1,
        }
    }
    whole > mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_files_are_read_in_the_encoding_that_they_were_written_in() {
        for (label, texts) in [
            (
                "windows-1251",
                &["Анна", "АННА", "Ян", "Ольга Петрова", "Лев Ю", "ООО «Ромашка» № 5", "Эл. почта"][..],
            ),
            (
                "windows-1252",
                &["Müller", "Zoë", "José", "Größe ÄÖÜ", "É", "Straße 5 – „Haus“ 3 €", "Bjørn Åse"],
            ),
            ("utf-8", &["Müller", "Анна", "É", "田中"]),
        ] {
            let encoding = labelled(label).unwrap();
            for text in texts {
                let file = format!("phone_number,name\r\n79031110001,{text}\r\n");
                assert_eq!(guess(&encoding.encode(&file).0).name(), encoding.name(), "{text}");
            }
        }
    }

    #[test]
    fn a_broken_character_does_not_make_utf8_anything_else() {
        let mut text = "Анна Борис Вера".repeat(9).into_bytes();
        text.push(0xff);
        text.extend("Глеб".bytes());
        assert_eq!(guess(&text), UTF_8);
        let cut = "Анна".as_bytes();
        assert_eq!(guess(&cut[..7]), UTF_8);
    }

    #[test]
    fn utf16_is_known_by_its_zeros_and_one_stray_zero_is_not_it() {
        let units = |order: fn(u16) -> [u8; 2]| {
            "Телефон;Имя\r\n79031110001;Анна\r\n".encode_utf16().flat_map(order).collect::<Vec<_>>()
        };
        assert_eq!(utf16(&units(u16::to_le_bytes)), Some(UTF_16LE));
        assert_eq!(utf16(&units(u16::to_be_bytes)), Some(UTF_16BE));
        assert_eq!(utf16(b"phone_number,name\n79031110001,a\0b\n"), None);
        assert_eq!(utf16(b"phone_number"), None);
        assert_eq!(utf16(b""), None);
    }

    #[test]
    fn what_is_not_text_is_refused_by_its_name() {
        for (head, name) in [
            (&b"PK\x03\x04..[Content_Types].xml"[..], "xlsx"),
            (b"PK\x03\x04..clients.csv", "zip"),
            (b"PK\x03\x04..mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "ods"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\xd0\xcf\x11\xe0\xa1", "xls"),
            (b"%PDF-1.7", "PDF"),
        ] {
            let Err(Error::Unsupported(why)) = refuse_binary(head) else { panic!("{name}") };
            assert!(why.contains(name), "{why}");
        }
        assert!(refuse_binary(b"PK,phone_number\n").is_ok());
        assert!(refuse_binary(b"").is_ok());
    }
}
