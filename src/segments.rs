//! Counts the segments of a text message, by which it is charged: 3GPP TS 23.038 (alphabets), 3GPP TS 23.040 (parts of
//! a long message).

use serde::Serialize;
use utoipa::ToSchema;

/// The GSM 7-bit default alphabet (TS 23.038, 6.2.1) in the order of its table, without the escape to the extension.
const ALPHABET: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// The extension table (6.2.1.1). Each character takes an escape and a septet.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// The number of listed characters that force UCS-2.
const MOST_NAMED: usize = 10;

/// The encoding of all characters of a text message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The GSM 7-bit default alphabet with its extension. A unit is a septet.
    Gsm7,
    /// UTF-16, for texts with a character that is not in that alphabet. A unit is two bytes.
    Ucs2,
}

impl Encoding {
    /// Returns the number of units of a message with one segment: 140 bytes.
    const fn alone(self) -> u32 {
        match self {
            Self::Gsm7 => 160,
            Self::Ucs2 => 70,
        }
    }

    /// Returns the number of units of a segment of a longer message: six bytes are used by the concatenation header
    /// (TS 23.040, 9.2.3.24.1).
    const fn part(self) -> u32 {
        match self {
            Self::Gsm7 => 153,
            Self::Ucs2 => 67,
        }
    }

    /// Returns the number of units of a character.
    fn units(self, c: char) -> u32 {
        match self {
            Self::Gsm7 if EXTENSION.contains(c) => 2,
            Self::Gsm7 => 1,
            Self::Ucs2 if c.len_utf16() == 2 => 2,
            Self::Ucs2 => 1,
        }
    }
}

/// The segments of a text message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Segments {
    /// The encoding of the text.
    pub encoding: Encoding,
    /// The length of the text in units of the encoding: septets or UTF-16 code units.
    pub units: u32,
    /// The number of segments that are sent and charged.
    pub segments: u32,
    /// The number of units of a segment.
    pub units_per_segment: u32,
    /// The number of free units in the last segment.
    pub left_in_segment: u32,
    /// The first ten characters that are not in the GSM alphabet, each once. They reduce the capacity of a segment to
    /// less than half.
    #[schema(value_type = Vec<String>, max_items = 10)]
    pub not_gsm7: Vec<char>,
}

fn is_gsm7(c: char) -> bool {
    match c {
        // covers nearly every character without a search
        ' '..='~' => c != '`',
        _ => ALPHABET.contains(c) || EXTENSION.contains(c),
    }
}

/// Returns true if every character of the text is in the GSM 7-bit alphabet or its extension.
pub fn fits_gsm7(text: &str) -> bool {
    text.chars().all(is_gsm7)
}

/// Counts the segments of a text as a network splits it. An escape and its septet, or the halves of a surrogate pair,
/// stay together, so a segment may have an unused unit at its end. An empty text is one empty message.
pub fn segments(text: &str) -> Segments {
    let mut not_gsm7 = Vec::new();
    for c in text.chars().filter(|c| !is_gsm7(*c)) {
        if !not_gsm7.contains(&c) {
            not_gsm7.push(c);
        }
        if not_gsm7.len() == MOST_NAMED {
            break;
        }
    }
    let encoding = if not_gsm7.is_empty() { Encoding::Gsm7 } else { Encoding::Ucs2 };
    let units = text.chars().fold(0_u32, |sum, c| sum.saturating_add(encoding.units(c)));
    if units <= encoding.alone() {
        let left_in_segment = encoding.alone() - units;
        let units_per_segment = encoding.alone();
        return Segments { encoding, units, segments: 1, units_per_segment, left_in_segment, not_gsm7 };
    }
    let (mut segments, mut used) = (1, 0);
    for c in text.chars() {
        let more = encoding.units(c);
        if used + more > encoding.part() {
            segments += 1;
            used = 0;
        }
        used += more;
    }
    let left_in_segment = encoding.part() - used;
    Segments { encoding, units, segments, units_per_segment: encoding.part(), left_in_segment, not_gsm7 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns `(encoding, units, segments, left in the last)`.
    fn of(text: &str) -> (Encoding, u32, u32, u32) {
        let Segments { encoding, units, segments, left_in_segment, .. } = segments(text);
        (encoding, units, segments, left_in_segment)
    }

    #[test]
    fn the_alphabet_is_the_tables() {
        // 128 positions, one of which is the escape
        assert_eq!(ALPHABET.chars().count(), 127);
        // the first positions of the table's rows, minus one after the escape
        for (place, c) in [(0x00, '@'), (0x10, 'Δ'), (0x1f - 1, 'É'), (0x20 - 1, ' '), (0x30 - 1, '0')] {
            assert_eq!(ALPHABET.chars().nth(place), Some(c));
        }
        for (place, c) in
            [(0x40 - 1, '¡'), (0x50 - 1, 'P'), (0x60 - 1, '¿'), (0x70 - 1, 'p'), (0x7f - 1, 'à')]
        {
            assert_eq!(ALPHABET.chars().nth(place), Some(c));
        }
        let once: std::collections::BTreeSet<char> = ALPHABET.chars().chain(EXTENSION.chars()).collect();
        assert_eq!(once.len(), 127 + 10);
        for c in '\0'..='\u{3000}' {
            assert_eq!(is_gsm7(c), once.contains(&c), "{c:?}");
        }
    }

    #[test]
    fn texts_are_split_where_the_standard_says() {
        use Encoding::{Gsm7, Ucs2};
        let cases = [
            (String::new(), (Gsm7, 0, 1, 160)),
            ("a".repeat(160), (Gsm7, 160, 1, 0)),
            ("a".repeat(161), (Gsm7, 161, 2, 306 - 161)),
            ("a".repeat(306), (Gsm7, 306, 2, 0)),
            ("a".repeat(307), (Gsm7, 307, 3, 152)),
            ("a".repeat(1530), (Gsm7, 1530, 10, 0)),
            ("€".repeat(80), (Gsm7, 160, 1, 0)),
            // 76 pairs and an unused septet in each
            ("€".repeat(81), (Gsm7, 162, 2, 153 - 10)),
            // the escape would be the 153rd septet
            (format!("{}€{}", "a".repeat(152), "a".repeat(10)), (Gsm7, 164, 2, 153 - 12)),
            ("ы".repeat(70), (Ucs2, 70, 1, 0)),
            ("ы".repeat(71), (Ucs2, 71, 2, 134 - 71)),
            ("ы".repeat(134), (Ucs2, 134, 2, 0)),
            ("ы".repeat(135), (Ucs2, 135, 3, 66)),
            ("😀".repeat(35), (Ucs2, 70, 1, 0)),
            // 33 pairs and an unused unit in each
            ("😀".repeat(67), (Ucs2, 134, 3, 67 - 2)),
            (format!("{}😀{}", "ы".repeat(66), "ы".repeat(10)), (Ucs2, 78, 2, 67 - 12)),
            // one character changes the encoding of the whole text
            (format!("{}’", "a".repeat(159)), (Ucs2, 160, 3, 201 - 160)),
            ("Price: [5€] {a|b} ~ ^ \\".into(), (Gsm7, 23 + 9, 1, 160 - 32)),
        ];
        for (text, expected) in cases {
            assert_eq!(of(&text), expected, "{text}");
        }
    }

    #[test]
    fn what_forces_ucs2_is_named_once_and_not_without_end() {
        assert_eq!(segments("naïve — ‘naïve’").not_gsm7, ['ï', '—', '‘', '’']);
        assert!(segments("Grüße, 5 €\r\n").not_gsm7.is_empty());
        let many = "абвгдежзийклмн";
        assert_eq!(segments(many).not_gsm7, many.chars().take(10).collect::<Vec<_>>());
    }

    #[test]
    fn it_reads_as_the_api_says() {
        let json = serde_json::to_value(segments("ё")).unwrap();
        let expected = serde_json::json!({
            "encoding": "ucs2", "units": 1, "segments": 1, "units_per_segment": 70, "left_in_segment": 69,
            "not_gsm7": ["ё"],
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::to_value(segments("e").encoding).unwrap(), "gsm7");
    }

    /// Splits a text as a network does: each part is the longest that fits.
    fn split(text: &str, limit: usize, units: impl Fn(&str) -> usize) -> Vec<String> {
        let mut parts = vec![String::new()];
        for c in text.chars() {
            let longer = format!("{}{c}", parts.last().unwrap());
            if units(&longer) > limit {
                parts.push(c.into());
            } else {
                *parts.last_mut().unwrap() = longer;
            }
        }
        parts
    }

    proptest! {
        #[test]
        fn any_text_is_counted_as_its_parts_are(text in "([a-zA-Z0-9 €\\[\\]]|[а-я]|\\PC){0,400}") {
            let found = segments(&text);
            fn utf16(part: &str) -> usize {
                part.encode_utf16().count()
            }
            fn septets(part: &str) -> usize {
                part.chars().map(|c| 1 + usize::from(EXTENSION.contains(c))).sum()
            }
            type Length = fn(&str) -> usize;
            let (alone, limit, units) = match found.encoding {
                Encoding::Gsm7 => (160, 153, septets as Length),
                Encoding::Ucs2 => (70, 67, utf16 as Length),
            };
            prop_assert_eq!(found.encoding == Encoding::Gsm7, fits_gsm7(&text));
            prop_assert_eq!(found.not_gsm7.is_empty(), fits_gsm7(&text));
            prop_assert_eq!(found.units as usize, units(&text));
            let (limit, parts) = if units(&text) <= alone {
                (alone, vec![text.clone()])
            } else {
                (limit, split(&text, limit, units))
            };
            prop_assert_eq!(parts.len(), found.segments as usize);
            prop_assert_eq!(limit, found.units_per_segment as usize);
            prop_assert_eq!(limit - units(parts.last().unwrap()), found.left_in_segment as usize);
        }

        #[test]
        fn latin_texts_stay_gsm7(text in "[A-Za-z0-9 .,!?@£$¥èéùìòÇØøÅåÄÖÑÜäöñüà€\\[\\]{}~^|]{0,400}") {
            prop_assert_eq!(segments(&text).encoding, Encoding::Gsm7);
        }
    }
}
