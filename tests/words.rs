//! Checks the wording of doc comments and of the strings that users read, by the style guide in CONTRIBUTING.md.

use crate::sources::rust_texts;

/// The words that no doc comment begins a line with: a doc comment says what the item is or does.
const BEGINNINGS: &[&str] = &["What", "Whether", "Who", "Whose", "Whom", "Of", "For whom"];

/// Phrases that no string of the program contains, with the plain words in their place.
const PHRASES: &[(&str, &str)] = &[
    ("anew", "again"),
    ("as it were", "nothing"),
    ("does not allow this", "Conflict, with the state"),
    ("is no longer there", "was deleted"),
    ("is left alone", "deferred or suppressed"),
    ("nobody", "the subject of the sentence"),
    ("no such thing", "Not found"),
    ("so many", "the number"),
    ("somebody", "the subject of the sentence"),
    ("given back", "released"),
    ("took over", "taken over, with the object"),
    ("Too much at once", "Service overloaded"),
    ("what became of", "the outcome of"),
    ("is no ", "is not a"),
    ("whom", "the noun"),
];

/// Returns the text of a doc comment's line.
fn doc_line(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim_start)
}

fn begins_badly(text: &str) -> bool {
    let rest = |word: &&str| text.strip_prefix(*word);
    let is_word_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    BEGINNINGS.iter().filter_map(rest).any(is_word_end)
}

/// Returns the contents of the string literals in a line of code.
fn strings(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut begin, mut is_escaped) = (None, false);
    for (at, c) in line.char_indices() {
        match (begin, c) {
            (None, '"') => begin = Some(at + 1),
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(from), '"') => {
                found.extend(line.get(from..at));
                begin = None;
            }
            _ => {}
        }
    }
    // a string that goes on in the next line
    found.extend(begin.and_then(|from| line.get(from..)));
    found
}

#[test]
fn doc_comments_begin_with_a_noun_or_a_verb() {
    let mut wrong = Vec::new();
    for (folder, (path, text)) in ["src", "tests", "benches"]
        .into_iter()
        .flat_map(|folder| rust_texts(folder).into_iter().map(move |file| (folder, file)))
    {
        for (number, line) in text.lines().enumerate() {
            if doc_line(line).is_some_and(begins_badly) {
                wrong.push(format!("{folder}/{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "say what the item is or does:\n{}", wrong.join("\n"));
}

#[test]
fn strings_use_plain_words() {
    let mut wrong = Vec::new();
    for (path, text) in rust_texts("src") {
        if path.ends_with("/tests.rs") || path.contains("/tests/") {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().expect("a beginning");
        for (number, line) in
            code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for string in strings(line) {
                let checked = string.replace("there is no ", "");
                for (phrase, instead) in PHRASES.iter().filter(|(phrase, _)| checked.contains(phrase)) {
                    wrong.push(format!("src/{path}:{}: `{phrase}`; say {instead}: {string}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn lines_and_strings_are_told_apart() {
    assert!(begins_badly("What it does") && begins_badly("Of all") && !begins_badly("Whatever comes"));
    assert_eq!(doc_line("    /// Returns it"), Some("Returns it"));
    assert_eq!(doc_line("    // Whether"), None);
    assert_eq!(strings(r#"f("a \" b", x, "c")"#), [r#"a \" b"#, "c"]);
    assert_eq!(strings(r#"    "begins here"#), ["begins here"]);
}
