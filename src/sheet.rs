//! Escaping of CSV cells, so that they are safe to open in a spreadsheet.
//!
//! A spreadsheet executes a cell that begins like a formula, and a formula can send the rest of the sheet elsewhere. An
//! export writes an apostrophe before such a cell, and an import removes it, so an exported file can be imported
//! unchanged. Rejected: a space or a tab instead, which an import could not tell from stored text.

use std::borrow::Cow;

/// The first characters of a formula, including the full-width forms of Japanese and Chinese keyboards.
const FIRST: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// Escapes a cell: puts an apostrophe before a formula.
pub fn guard(cell: &str) -> Cow<'_, str> {
    if is_formula(cell) { format!("'{cell}").into() } else { cell.into() }
}

/// Undoes [`guard`].
pub fn unguard(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|_| is_formula(cell)).unwrap_or(cell)
}

/// Returns the text of a formula that is only a text, like `="007"`, which programs write so that a spreadsheet does
/// not read it as a number. Any other cell stays as it is.
pub fn text_of_formula(cell: &str) -> &str {
    let text = cell.strip_prefix("=\"").and_then(|rest| rest.strip_suffix('"'));
    text.filter(|text| !text.contains('"')).unwrap_or(cell)
}

/// Returns true if a cell begins like a formula, after any apostrophes. A signed number is not a formula, and stays
/// readable for other programs.
fn is_formula(cell: &str) -> bool {
    let text = cell.trim_start_matches('\'').trim_start();
    text.starts_with(FIRST) && !is_number(text)
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, part) = digits.split_once(['.', ',']).unwrap_or((digits, "0"));
    [whole, part].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formulas_are_guarded_and_numbers_stay() {
        for cell in
            ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", " =1", "＝1", "'=1", "-", "+", "-1-1", "-1.", "=5"]
        {
            assert_eq!(guard(cell), format!("'{cell}"), "{cell}");
        }
        for cell in ["", "a=1", "-5", "+79031234567", "-0.5", "-1,5", "'", "'a", "2026-12-01", "it's"] {
            assert_eq!(guard(cell), cell);
            assert_eq!(unguard(cell), cell);
        }
    }

    #[test]
    fn a_formula_that_is_a_text_is_that_text() {
        for (cell, text) in [
            (r#"="+7 903""#, "+7 903"),
            (r#"="""#, ""),
            (r#"="a"&"b""#, r#"="a"&"b""#),
            (r#"=""#, r#"=""#),
            (r#""a""#, r#""a""#),
            ("=A1", "=A1"),
        ] {
            assert_eq!(text_of_formula(cell), text, "{cell}");
        }
        assert_eq!(text_of_formula(unguard(&guard(r#"="a""#))), "a");
        assert_eq!(text_of_formula(&guard(r#"="a""#)), r#"'="a""#, "what was stored so comes back so");
    }

    proptest! {
        #[test]
        fn what_is_guarded_comes_back(cell in r"['=+@\-0-9., \t\ra]{0,6}|.{0,8}") {
            let guarded = guard(&cell);
            prop_assert_eq!(unguard(&guarded), &cell);
            let begins = guarded.trim_start().chars().next();
            prop_assert!(begins.is_none_or(|first| !FIRST.contains(&first)) || is_number(guarded.trim_start()));
        }
    }
}
