//! Writes values to the output, escaped for their context.

use std::borrow::Cow;
use std::io;

use super::budget::Budget;
use super::evaluate::{Evaluated, Evaluation, Stop, boolean};
use super::number::{Number, WIDEST};
use super::syntax::Expr;
use super::value::Value;

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

impl Evaluation<'_> {
    /// Writes a value.
    pub(super) fn emit(&mut self, value: &Value<'_>, of: &Expr, output: &mut Output<'_>) -> Evaluated<()> {
        match value {
            Value::Missing => Err(self.no_value(of)),
            Value::Text(text) => {
                self.budget.bytes(4 * text.len())?;
                output.write(text)
            }
            // neither needs an escape
            Value::Bool(value) => output.push(boolean(*value)),
            Value::Number(number) => {
                self.budget.converted(number.width())?;
                output.number(*number)
            }
            // it has digits, a sign, a point and an exponent, and `+` is escaped in a URL
            Value::Exact(number) if output.escape == Escape::Percent => {
                self.budget.bytes(4 * number.as_str().len())?;
                output.write(number.as_str())
            }
            Value::Exact(number) => {
                self.budget.bytes(4 * number.as_str().len())?;
                output.push(number.as_str())
            }
            Value::List(items) => self.emit_json(items, output),
            Value::Map(fields) => self.emit_json(fields, output),
        }
    }

    /// Writes a list or an object as JSON.
    fn emit_json(&mut self, json: &impl serde::Serialize, output: &mut Output<'_>) -> Evaluated<()> {
        let mut writer = JsonWriter { budget: &mut self.budget, output, stop: None };
        match serde_json::to_writer(&mut writer, json) {
            Ok(()) => Ok(()),
            Err(_) => Err(writer.stop.unwrap_or(Stop::TooMuchWork)),
        }
    }
}

/// The output so far, which never grows past its limit.
pub(super) struct Output<'o> {
    pub(super) text: &'o mut String,
    pub(super) escape: Escape,
    pub(super) longest: usize,
}

impl Output<'_> {
    /// Appends text of the template, or a value that needs no escape.
    pub(super) fn push(&mut self, text: &str) -> Evaluated<()> {
        if self.text.len() + text.len() > self.longest {
            return Err(Stop::TooLong);
        }
        self.text.push_str(text);
        Ok(())
    }

    fn number(&mut self, number: Number) -> Evaluated<()> {
        use std::fmt::Write;
        if self.text.len() + WIDEST > self.longest {
            return self.push(&number.to_string());
        }
        // writing to a String never fails
        let _ = write!(self.text, "{number}");
        Ok(())
    }

    /// Appends a value, escaped.
    fn write(&mut self, text: &str) -> Evaluated<()> {
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

/// Writes JSON to the output, piece by piece.
struct JsonWriter<'w, 'o> {
    budget: &'w mut Budget,
    output: &'w mut Output<'o>,
    stop: Option<Stop>,
}

impl JsonWriter<'_, '_> {
    fn piece(&mut self, piece: &[u8]) -> Evaluated<()> {
        self.budget.step()?;
        self.budget.bytes(4 * piece.len())?;
        // serde_json writes whole characters
        let piece = std::str::from_utf8(piece).unwrap_or_default();
        match self.output.escape {
            // it is JSON already
            Escape::Json => self.output.push(piece),
            _ => self.output.write(piece),
        }
    }
}

impl io::Write for JsonWriter<'_, '_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.piece(piece).map(|()| piece.len()).map_err(|stop| {
            self.stop = Some(stop);
            io::Error::from(io::ErrorKind::WriteZero)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
