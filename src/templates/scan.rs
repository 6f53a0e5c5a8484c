//! Finds what a text may not use, also where no rendering comes to: minijinja looks filters, tests and functions up when
//! it renders, and what stands in a branch would fail for the first recipient who takes it.

/// What of a tag was read last.
#[derive(Clone, Copy, PartialEq)]
enum Before<'t> {
    Nothing,
    Sign(char),
    Word(&'t str),
    /// A filter, whose arguments may follow.
    Filter,
}

/// Words that may stand before a parenthesis without calling anything.
const KEYWORDS: &[&str] = &["if", "elif", "else", "for", "in", "and", "or", "not"];
/// What a loop can be asked for.
const OF_A_LOOP: &[&str] = &["cycle", "changed"];

/// Looks through the tags of a text that is well-formed.
///
/// # Errors
/// Names the filter, the test or the function that there is not.
pub(super) fn check(text: &str, is_filter: impl Fn(&str) -> bool) -> Result<(), String> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        rest = match after.chars().next() {
            Some('{') => tag(after.get(1..).unwrap_or_default(), "}}", &is_filter)?,
            Some('%') => {
                let inside = after.get(1..).unwrap_or_default();
                if inside.trim_start_matches(['-', '+']).trim_start().starts_with("raw") {
                    inside.split_once("endraw").map_or("", |(_, rest)| rest)
                } else {
                    tag(inside, "%}", &is_filter)?
                }
            }
            Some('#') => after.split_once("#}").map_or("", |(_, rest)| rest),
            _ => after,
        };
    }
    Ok(())
}

/// Looks through one tag; answers what follows it.
fn tag<'t>(text: &'t str, end: &str, is_filter: &impl Fn(&str) -> bool) -> Result<&'t str, String> {
    let mut rest = text;
    let mut before = Before::Nothing;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(end) {
            return Ok(after);
        }
        let length = if c == '"' || c == '\'' {
            before = Before::Sign(c);
            quoted(rest, c)
        } else if c.is_alphabetic() || c == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            before = word(rest.get(..length).unwrap_or_default(), before, is_filter)?;
            length
        } else {
            if c == '(' {
                called(before)?;
            }
            if !c.is_whitespace() {
                before = Before::Sign(c);
            }
            c.len_utf8()
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok("")
}

/// How long a quoted text is, its quotes among it.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn word<'t>(
    word: &'t str,
    before: Before<'t>,
    is_filter: &impl Fn(&str) -> bool,
) -> Result<Before<'t>, String> {
    match before {
        Before::Sign('|') | Before::Word("filter") if is_filter(word) => Ok(Before::Filter),
        Before::Sign('|') => Err(format!("there is no filter `{word}`")),
        // a part of a value may have any name
        Before::Sign('.') if OF_A_LOOP.contains(&word) => Ok(Before::Filter),
        Before::Sign('.') => Ok(Before::Word(word)),
        _ if word == "is" => Err("there are no tests such as `is defined`".into()),
        _ if KEYWORDS.contains(&word) => Ok(Before::Sign(' ')),
        _ => Ok(Before::Word(word)),
    }
}

fn called(before: Before<'_>) -> Result<(), String> {
    match before {
        Before::Word(name) => Err(format!("there is no function `{name}`: a text is no program")),
        Before::Sign(')' | ']') => Err("there are no functions: a text is no program".into()),
        Before::Nothing | Before::Sign(_) | Before::Filter => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    fn check(text: &str) -> Result<(), String> {
        super::check(text, |name| ["upper", "default"].contains(&name))
    }

    #[test]
    fn what_there_is_not_is_found_wherever_it_stands() {
        for (text, what) in [
            ("{{ a | nope }}", "`nope`"),
            ("{% if a %}{{ b.c[0] |nope('x') }}{% endif %}", "`nope`"),
            ("{% for x in xs %}{% if x|nope %}{% endif %}{% endfor %}", "`nope`"),
            ("{{ a | upper | nope }}", "`nope`"),
            ("{% if a is defined %}{% endif %}", "is defined"),
            ("{{ range(3) }}", "`range`"),
            ("{{ a.items () }}", "`items`"),
            ("{{ a[0]('x') }}", "functions"),
            ("{{ '\\'' }}{{ a|nope }}", "`nope`"),
            ("{# | x #}{{ a|nope }}", "`nope`"),
        ] {
            assert!(check(text).unwrap_err().contains(what), "{text}");
        }
    }

    #[test]
    fn what_is_right_or_no_tag_passes() {
        for text in [
            "a | nope (b) is c { | nope } {",
            "{{ a | default('x | nope (y) is z }}') | upper }}",
            "{% if (a) and not(b) or (c in (d)) %}{{ (a) }}{% elif(x) %}{% endif %}",
            "{{ a.is }} {{ a.filter }} {{ is_new }}",
            "{% raw %}{{ a | nope }}{% endraw %}{{ a | upper }}",
            "{# {{ a | nope }} #}",
            "{% for x in xs %}{{ loop.cycle('a', 'b') }}{% endfor %}",
            "{{ 'ä' }}{{ ä }}",
            "{{",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }
}
