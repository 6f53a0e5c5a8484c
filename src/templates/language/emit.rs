//! Writes values to the output, escaped for their context.

use std::io;

use super::budget::Budget;
use super::evaluate::Evaluation;
use super::failure::{Evaluated, Stop};
use super::output::{Escape, RenderOutput};
use super::syntax::Expr;
use super::value::{Value, boolean};

impl Evaluation<'_> {
    /// Writes a value.
    pub(super) fn emit(
        &mut self,
        value: &Value<'_>,
        of: &Expr,
        output: &mut RenderOutput<'_>,
    ) -> Evaluated<()> {
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
    fn emit_json(&mut self, json: &impl serde::Serialize, output: &mut RenderOutput<'_>) -> Evaluated<()> {
        let mut writer = JsonWriter { budget: &mut self.budget, output, stop: None };
        match serde_json::to_writer(&mut writer, json) {
            Ok(()) => Ok(()),
            Err(_) => Err(writer.stop.unwrap_or(Stop::TooMuchWork)),
        }
    }
}

/// Writes JSON to the output, piece by piece.
struct JsonWriter<'w, 'o> {
    budget: &'w mut Budget,
    output: &'w mut RenderOutput<'o>,
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
