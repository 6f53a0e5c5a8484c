//! The output of a rendering, with its escaping and its limit.

use std::borrow::Cow;

use super::failure::{Evaluated, Stop};
use super::number::{Number, WIDEST};

/// The escaping of values in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// Writes values unchanged.
    None,
    /// Escapes values for HTML text and quoted attributes.
    Html,
    /// Escapes values for a URL: encodes all but the unreserved characters (RFC 3986, 2.3).
    Percent,
    /// Writes values as JSON; a text with its quotes.
    Json,
}

/// The output so far, which never grows past its limit.
pub(super) struct RenderOutput<'o> {
    pub(super) text: &'o mut String,
    pub(super) escape: Escape,
    pub(super) longest: usize,
}

impl RenderOutput<'_> {
    /// Appends text of the template, or a value that needs no escape.
    pub(super) fn push(&mut self, text: &str) -> Evaluated<()> {
        if self.text.len() + text.len() > self.longest {
            return Err(Stop::TooLong);
        }
        self.text.push_str(text);
        Ok(())
    }

    /// Appends a number, which needs no escape.
    pub(super) fn number(&mut self, number: Number) -> Evaluated<()> {
        use std::fmt::Write;
        if self.text.len() + WIDEST > self.longest {
            return self.push(&number.to_string());
        }
        // writing to a String never fails
        let _ = write!(self.text, "{number}");
        Ok(())
    }

    /// Appends a value, escaped.
    pub(super) fn write(&mut self, text: &str) -> Evaluated<()> {
        match self.escape {
            Escape::None => self.push(text),
            Escape::Html => self.escaped(text, html),
            Escape::Percent => percent_encoding::utf8_percent_encode(text, NOT_UNRESERVED)
                .try_for_each(|part| self.push(part)),
            Escape::Json => {
                self.push("\"")?;
                self.escaped(text, json)?;
                self.push("\"")
            }
        }
    }

    fn escaped(&mut self, text: &str, escape: fn(u8) -> Option<Cow<'static, str>>) -> Evaluated<()> {
        let mut written = 0;
        // only ASCII bytes are escaped, and each of them is a whole character
        for (at, byte) in text.bytes().enumerate() {
            if let Some(instead) = escape(byte) {
                self.push(text.get(written..at).unwrap_or_default())?;
                self.push(&instead)?;
                written = at + 1;
            }
        }
        self.push(text.get(written..).unwrap_or_default())
    }
}

const NOT_UNRESERVED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn html(byte: u8) -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(match byte {
        b'<' => "&lt;",
        b'>' => "&gt;",
        b'&' => "&amp;",
        b'"' => "&quot;",
        b'\'' => "&#x27;",
        _ => return None,
    }))
}

/// Returns the escape of a character that RFC 8259, 7 forbids in a string.
fn json(byte: u8) -> Option<Cow<'static, str>> {
    Some(match byte {
        b'"' => "\\\"".into(),
        b'\\' => "\\\\".into(),
        b'\n' => "\\n".into(),
        b'\r' => "\\r".into(),
        b'\t' => "\\t".into(),
        0..0x20 => format!("\\u{byte:04x}").into(),
        _ => return None,
    })
}
