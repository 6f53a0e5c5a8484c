//! Splits a template into text and tags, and a tag into tokens.

use std::borrow::Cow;
use std::ops::Range;

/// The beginning of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagKind {
    /// `{{`
    Emit,
    /// `{%`
    Statement,
}

/// A token of a tag.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'s> {
    /// A name or a keyword.
    Word(&'s str),
    /// A quoted text.
    Text(Cow<'s, str>),
    /// Digits.
    Whole(i128),
    /// Digits with a fraction.
    Float(f64),
    /// An operator or a bracket.
    Sign(&'static str),
    /// `}}` or `%}`
    Close(TagKind),
    /// The end of the source.
    End,
}

impl Token<'_> {
    /// Returns the token as error messages show it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Text(_) => "a quoted text".into(),
            Self::Whole(_) | Self::Float(_) => "a number".into(),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::Close(TagKind::Emit) => "`}}`".into(),
            Self::Close(TagKind::Statement) => "`%}`".into(),
            Self::End => "the end of the text".into(),
        }
    }
}

/// All signs, each before its own prefixes.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "//", "**", "<", ">", "+", "-", "*", "/", "%", "~", "|", "(", ")", "[", "]", ",",
    ":", ".", "{", "}", "=",
];

/// Reads a source from its beginning to its end.
#[derive(Debug)]
pub(super) struct Lexer<'s> {
    source: &'s str,
    at: usize,
    /// True if the next text loses its leading spaces, because the last tag ended with `-`.
    trims_next: bool,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Self { source, at: 0, trims_next: false }
    }

    /// Returns the offset of the next token or text.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    /// Reads text up to the next tag, and returns the tag's opening, or `None` at the end. A comment is a gap in the
    /// text, so the ranges are passed to `found` one by one.
    ///
    /// # Errors
    /// A comment or a `raw` that is not closed.
    pub(super) fn text(&mut self, mut found: impl FnMut(Range<usize>)) -> Result<Option<TagKind>, String> {
        loop {
            let from = self.at;
            let Some((before, kind)) = self.next_tag() else {
                self.at = self.source.len();
                found(self.trimmed(from..self.at, false));
                return Ok(None);
            };
            let tag = from + before;
            let rest = self.source.get(tag + 2..).unwrap_or_default();
            let (trims, control) = control(rest);
            found(self.trimmed(from..tag, trims));
            self.trims_next = false;
            self.at = tag + 2 + control;
            match kind {
                b'#' => self.skip_comment()?,
                b'{' => return Ok(Some(TagKind::Emit)),
                _ => match self.raw()? {
                    Some(raw) => found(raw),
                    None => return Ok(Some(TagKind::Statement)),
                },
            }
        }
    }

    /// Returns the distance to the next tag, and its second character.
    fn next_tag(&self) -> Option<(usize, u8)> {
        let bytes = self.rest().as_bytes();
        bytes.windows(2).enumerate().find_map(|(at, pair)| match pair {
            [b'{', kind @ (b'{' | b'%' | b'#')] => Some((at, *kind)),
            _ => None,
        })
    }

    /// Returns a range of text without the spaces that the adjacent tags remove.
    fn trimmed(&self, range: Range<usize>, trims_end: bool) -> Range<usize> {
        let text = self.source.get(range.clone()).unwrap_or_default();
        let kept = if self.trims_next { text.trim_start() } else { text };
        let start = range.end - kept.len();
        let kept = if trims_end { kept.trim_end() } else { kept };
        start..start + kept.len()
    }

    fn skip_comment(&mut self) -> Result<(), String> {
        let Some(end) = self.rest().find("#}") else { return Err("a comment is not closed by `#}`".into()) };
        self.trims_next = self.rest().get(..end).is_some_and(|comment| comment.ends_with('-'));
        self.at += end + 2;
        Ok(())
    }

    /// Reads the text of `{% raw %}`, if that tag begins here.
    fn raw(&mut self) -> Result<Option<Range<usize>>, String> {
        let Some((begin, trims_start)) = simple_tag(self.rest(), "raw") else { return Ok(None) };
        let from = self.at + begin;
        let mut tag = from;
        while let Some(found) = self.source.get(tag..).and_then(|rest| rest.find("{%")) {
            let end = tag + found;
            let inside = self.source.get(end + 2..).unwrap_or_default();
            let (trims_end, skipped) = control(inside);
            if let Some((length, trims_next)) =
                simple_tag(inside.get(skipped..).unwrap_or_default(), "endraw")
            {
                self.trims_next = trims_start;
                let raw = self.trimmed(from..end, trims_end);
                self.at = end + 2 + skipped + length;
                self.trims_next = trims_next;
                return Ok(Some(raw));
            }
            tag = end + 2;
        }
        Err("`raw` is not closed by `{% endraw %}`".into())
    }

    /// Reads the next token of a tag.
    ///
    /// # Errors
    /// A quoted text that is not closed, a number that is too large, or an unexpected character.
    pub(super) fn token(&mut self) -> Result<(Token<'s>, Range<usize>), String> {
        self.at += self.rest().len() - self.rest().trim_start().len();
        let (from, rest) = (self.at, self.rest());
        let Some(first) = rest.chars().next() else { return Ok((Token::End, from..from)) };
        if let Some((opening, length, trims)) = closing(rest) {
            self.at += length;
            self.trims_next = trims;
            return Ok((Token::Close(opening), from..self.at));
        }
        let (token, length) = if first == '"' || first == '\'' {
            quoted(rest, first)?
        } else if first.is_ascii_digit() {
            // after a dot it is the index of an element: `a.1.0` is `a[1][0]`
            number(rest, self.source.get(..from).is_some_and(|before| before.ends_with('.')))?
        } else if is_letter(first) {
            let length = rest.find(|c: char| !is_letter(c) && !c.is_numeric()).unwrap_or(rest.len());
            (Token::Word(rest.get(..length).unwrap_or_default()), length)
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("unexpected character {first:?}"))?;
            (Token::Sign(sign), sign.len())
        };
        self.at += length;
        Ok((token, from..self.at))
    }
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// Returns true if the text before the tag loses its trailing spaces, and the length of the sign.
fn control(inside: &str) -> (bool, usize) {
    match inside.as_bytes().first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    }
}

/// Returns the kind of a tag that ends here, the length of its end, and true if the next text loses its leading spaces.
fn closing(rest: &str) -> Option<(TagKind, usize, bool)> {
    let (trims, skipped) = control(rest);
    match rest.get(skipped..skipped + 2) {
        Some("}}") => Some((TagKind::Emit, skipped + 2, trims)),
        Some("%}") => Some((TagKind::Statement, skipped + 2, trims)),
        _ => None,
    }
}

/// Returns the length of a tag with one word, and true if the next text loses its leading spaces.
fn simple_tag(inside: &str, word: &str) -> Option<(usize, bool)> {
    let rest = inside.trim_start().strip_prefix(word)?.trim_start();
    let (opening, length, trims) = closing(rest)?;
    (opening == TagKind::Statement).then_some((inside.len() - rest.len() + length, trims))
}

fn quoted(rest: &str, quote: char) -> Result<(Token<'_>, usize), String> {
    let mut escaped = false;
    let mut has_escapes = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => (escaped, has_escapes) = (true, true),
            c if c == quote => {
                let text = rest.get(1..at).unwrap_or_default();
                let text = if has_escapes { unescaped(text).into() } else { text.into() };
                return Ok((Token::Text(text), at + 1));
            }
            _ => {}
        }
    }
    Err("a quoted text is not closed".into())
}

/// Resolves escapes. A backslash that begins no known escape stays.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('\\', Some(next)) => {
                let _ = chars.next();
                match next {
                    'n' => out.push('\n'),
                    'r' => out.push('\r'),
                    't' => out.push('\t'),
                    '"' | '\'' | '\\' | '/' => out.push(next),
                    other => out.extend(['\\', other]),
                }
            }
            _ => out.push(c),
        }
    }
    out
}

fn number(rest: &str, is_place: bool) -> Result<(Token<'_>, usize), String> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(rest);
    let behind = rest.get(whole..).unwrap_or_default();
    let fraction = behind.strip_prefix('.').map_or(0, digits);
    let too_large = |length: usize| {
        format!("the number {}… is too large", rest.get(..length.min(20)).unwrap_or_default())
    };
    if fraction == 0 || is_place {
        let value = rest.get(..whole).and_then(|text| text.parse().ok());
        return Ok((Token::Whole(value.ok_or_else(|| too_large(whole))?), whole));
    }
    let length = whole + 1 + fraction;
    let value = rest.get(..length).and_then(|text| text.parse::<f64>().ok());
    let value = value.filter(|value| value.is_finite()).ok_or_else(|| too_large(length))?;
    Ok((Token::Float(value), length))
}
