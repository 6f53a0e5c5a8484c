//! Unicode normalization of user input: one form for texts that look the same.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// Returns the text in Unicode's composed form (NFC, UAX #15): `e` followed by a diaeresis becomes `ë`.
pub fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    const { ComposingNormalizerBorrowed::new_nfc() }.normalize(text)
}

/// Returns true if a character is invisible or changes the direction of others, so that two texts which differ by it
/// look the same: Unicode's `Default_Ignorable_Code_Point` (UAX #44), and the line and paragraph separators.
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_becomes_the_same() {
        assert_eq!(composed("zoe\u{308}"), "zoë");
        assert_eq!(composed("zoë"), "zoë");
        assert_eq!(composed("зи\u{306}"), "зй");
        assert!(is_invisible('\u{200b}') && is_invisible('\u{202e}') && !is_invisible('ï'));
    }
}
