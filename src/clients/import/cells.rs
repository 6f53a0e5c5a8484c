//! The text of a cell, without invisible characters.

use std::borrow::Cow;

use crate::address::text::{composed, is_invisible};
use crate::sheet;

/// Cleans the text: trims and composes it (NFC), converts line ends to LF, and removes control characters and invisible
/// characters that join nothing. Spreadsheets and web pages leave these in cells, and texts that differ by them look
/// the same.
pub(super) fn clean(cell: &str) -> Cow<'_, str> {
    if cell.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return sheet::unguard(sheet::text_of_formula(cell.trim_ascii()).trim_ascii()).into();
    }
    let whole = trimmed(cell);
    if !whole.contains(|c| c == '\r' || is_dropped(c)) {
        return composed(sheet::unguard(trimmed(sheet::text_of_formula(whole))));
    }
    let text = seen(whole);
    composed(sheet::unguard(trimmed(sheet::text_of_formula(text.trim())))).into_owned().into()
}

/// Removes invisible characters.
fn seen(whole: &str) -> String {
    let mut text = String::with_capacity(whole.len());
    let mut rest = whole.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' => {
                rest.next_if_eq(&'\n');
                text.push('\n');
            }
            c if is_joiner(c) && joins(text.chars().next_back()) => text.push(c),
            c if is_dropped(c) => {}
            c => text.push(c),
        }
    }
    text
}

/// Removes spaces and invisible characters at both ends.
pub(super) fn trimmed(cell: &str) -> &str {
    cell.trim_matches(|c: char| c.is_whitespace() || c.is_control() || (is_invisible(c) && !is_joiner(c)))
}

/// Returns true if the cell has no visible character.
pub(super) fn is_blank(cell: &[u8]) -> bool {
    match cell {
        [] => true,
        [first, ..] if first.is_ascii_graphic() => false,
        cell => std::str::from_utf8(cell).is_ok_and(|cell| clean(cell).is_empty()),
    }
}

fn is_dropped(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t')) || is_invisible(c)
}

/// Returns true for joiners and variation selectors, which are parts of characters in several scripts, and of emoji.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

/// Returns true if a joiner may follow the character. Latin and Cyrillic letters are never joined.
fn joins(before: Option<char>) -> bool {
    before.is_some_and(|c| c >= '\u{590}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cells_are_trimmed_composed_and_free_of_what_nobody_sees() {
        for (cell, kept) in [
            ("  Anna ", "Anna"),
            ("\u{a0}\t Анна\u{2009}\u{feff}", "Анна"),
            ("\u{a0}", ""),
            ("\u{200b}", ""),
            ("zoe\u{308}", "zoë"),
            ("An\u{200b}na\0\u{85}", "Anna"),
            ("one\r\ntwo\rthree\nfour", "one\ntwo\nthree\nfour"),
            ("❤\u{fe0f}", "❤\u{fe0f}"),
            ("👨\u{200d}👩", "👨\u{200d}👩"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("Анна\u{200d}Б", "АннаБ"),
            ("'+7 903", "+7 903"),
            ("=\"+7 903\"", "+7 903"),
            (" =\" Анна \"\u{a0}", "Анна"),
            ("'=\"a\"", "=\"a\""),
            ("'quoted'", "'quoted'"),
            ("o'neil", "o'neil"),
        ] {
            assert_eq!(clean(cell), kept, "{cell:?}");
            assert_eq!(is_blank(cell.as_bytes()), kept.is_empty());
        }
    }

    proptest! {
        // without the apostrophe that spreadsheets use to keep a formula as text
        #[test]
        fn cleaning_again_changes_nothing(cell in "[a +=\"\u{200b}\u{200d}\u{fe0f}я\u{308}\r\n\0👨]{0,8}") {
            let once = clean(&cell).into_owned();
            prop_assert_eq!(clean(&once), once.as_str());
        }
    }
}
