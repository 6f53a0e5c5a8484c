//! Applies the filters. A filter that grows a text checks the size first.

use std::borrow::Cow;

use super::evaluate::Evaluation;
use super::failure::Stop;
use super::filter_names::TemplateFilter;
use super::number::{Number, WIDEST};
use super::syntax::Expr;
use super::value::Value;

/// The largest input or output of a filter, in bytes.
pub const LONGEST_VALUE: usize = 64 * 1024;
/// The most decimal places to which a number is rounded.
const MOST_PLACES: i128 = 20;

impl<'a> Evaluation<'a> {
    /// Returns the value of `of | filter(arguments)`.
    pub(super) fn filter(
        &mut self,
        filter: TemplateFilter,
        of: &'a Expr,
        arguments: &'a [Expr],
    ) -> Result<Value<'a>, Stop> {
        let value = self.value(of)?;
        let first = arguments.first();
        match filter {
            TemplateFilter::Default => {
                let is_lax = match arguments.get(1) {
                    Some(lax) => self.truth(lax)?,
                    None => false,
                };
                if !value.is_missing() && (!is_lax || value.is_true()) {
                    return Ok(value);
                }
                first.map_or(Ok(Value::text("")), |other| self.value(other))
            }
            TemplateFilter::Upper => self.converted(value, of, str::to_uppercase),
            TemplateFilter::Lower => self.converted(value, of, str::to_lowercase),
            TemplateFilter::Title => self.converted(value, of, title),
            TemplateFilter::Capitalize => self.converted(value, of, capitalize),
            TemplateFilter::Trim => {
                let text = self.short_text(value, of)?;
                let unwanted = match first {
                    Some(unwanted) => Some(self.argument(unwanted)?),
                    None => None,
                };
                self.budget.converted(text.len().saturating_mul(unwanted.as_ref().map_or(1, |u| u.len())))?;
                let trim = |text: &str| match &unwanted {
                    Some(unwanted) => text.trim_matches(|c| unwanted.contains(c)).len(),
                    None => text.trim().len(),
                };
                let start = |text: &str| match &unwanted {
                    Some(unwanted) => text.len() - text.trim_start_matches(|c| unwanted.contains(c)).len(),
                    None => text.len() - text.trim_start().len(),
                };
                let (from, length) = (start(&text), trim(&text));
                self.part(text, from, from + length)
            }
            TemplateFilter::Replace => {
                let text = self.short_text(value, of)?;
                let (Some(from), Some(to)) = (first, arguments.get(1)) else { return Ok(Value::Text(text)) };
                let (from, to) = (self.argument(from)?, self.argument(to)?);
                // the search reads both
                self.budget.converted(text.len() + from.len())?;
                let grows_by = to.len().saturating_mul(text.matches(&*from).count());
                self.check_length(text.len().saturating_add(grows_by), of)?;
                let replaced = text.replace(&*from, &to);
                self.budget.make(replaced.len())?;
                Ok(Value::Text(replaced.into()))
            }
            TemplateFilter::Append | TemplateFilter::Prepend => {
                let text = self.short_text(value, of)?;
                let Some(other) = first else { return Ok(Value::Text(text)) };
                let other = self.argument(other)?;
                if filter == TemplateFilter::Append {
                    self.joined(&text, &other, of)
                } else {
                    self.joined(&other, &text, of)
                }
            }
            TemplateFilter::Truncate => {
                let text = self.short_text(value, of)?;
                let length = self.count_of(first)?;
                self.budget.bytes(text.len())?;
                let Some((end, _)) = text.char_indices().nth(length) else { return Ok(Value::Text(text)) };
                let ellipsis = match arguments.get(1) {
                    Some(ellipsis) => self.argument(ellipsis)?,
                    None => "…".into(),
                };
                self.joined(text.get(..end).unwrap_or_default(), &ellipsis, of)
            }
            TemplateFilter::Join => self.join(value, of, first),
            TemplateFilter::Length => {
                let length = match &value {
                    Value::Text(text) => {
                        self.budget.bytes(text.len())?;
                        text.chars().count()
                    }
                    Value::List(items) => items.len(),
                    Value::Map(fields) => fields.len(),
                    other => return Err(self.wrong_kind(of, other, "a text or a list")),
                };
                Ok(Value::Number(Number::Whole(length as i128)))
            }
            TemplateFilter::First | TemplateFilter::Last => match value {
                Value::List(items) if filter == TemplateFilter::First => Ok(items.first().into()),
                Value::List(items) => Ok(items.last().into()),
                Value::Text(text) => {
                    let first = text.chars().next().map_or(0, char::len_utf8);
                    let last = text.chars().next_back().map_or(0, char::len_utf8);
                    let (from, to) = if filter == TemplateFilter::First {
                        (0, first)
                    } else {
                        (text.len() - last, text.len())
                    };
                    self.part(text, from, to)
                }
                other => Err(self.wrong_kind(of, &other, "a list or a text")),
            },
            TemplateFilter::Int | TemplateFilter::Float => {
                let number = match (&value, self.read_number(&value)?) {
                    (_, Some(number)) => number,
                    (Value::Bool(value), None) => Number::Whole((*value).into()),
                    (Value::Missing, None) => return Err(self.no_value(of)),
                    (other, None) => {
                        let Some(default) = first else { return Err(self.wrong_kind(of, other, "a number")) };
                        return self.value(default);
                    }
                };
                Ok(Value::Number(match filter {
                    TemplateFilter::Int => number.truncated(),
                    _ => Number::Float(number.as_f64()),
                }))
            }
            TemplateFilter::Round => {
                let number = self.number(value, of)?;
                let places = match first {
                    Some(_) => self.count_of(first)?.min(MOST_PLACES as usize),
                    None => 0,
                };
                self.budget.make(WIDEST)?;
                self.budget.converted(number.width() + places)?;
                Ok(Value::Number(number.rounded(places)))
            }
            TemplateFilter::Abs => Ok(Value::Number(self.number(value, of)?.abs())),
            TemplateFilter::Calculate(operator) => {
                let number = self.number(value, of)?;
                let Some(other) = first else { return Ok(Value::Number(number)) };
                let right = self.value(other)?;
                let right = self.number(right, other)?;
                self.calculate(operator, (number, right), of)
            }
        }
    }

    /// Returns a value as a number; parses a text.
    fn read_number(&mut self, value: &Value<'_>) -> Result<Option<Number>, Stop> {
        self.budget.read(value)?;
        Ok(match value {
            Value::Text(text) => Number::read(text),
            other => other.number(),
        })
    }

    /// Returns a value as a text, and checks that it is short enough for a filter.
    fn short_text(&mut self, value: Value<'a>, of: &Expr) -> Result<Cow<'a, str>, Stop> {
        let text = self.text(value, of)?;
        self.check_length(text.len(), of)?;
        Ok(text)
    }

    fn argument(&mut self, argument: &'a Expr) -> Result<Cow<'a, str>, Stop> {
        let value = self.value(argument)?;
        self.short_text(value, argument)
    }

    /// Returns an argument that is a number of characters or decimal places.
    fn count_of(&mut self, argument: Option<&'a Expr>) -> Result<usize, Stop> {
        let Some(argument) = argument else { return Ok(0) };
        let value = self.value(argument)?;
        match self.number(value, argument)? {
            Number::Whole(count) => Ok(usize::try_from(count.clamp(0, LONGEST_VALUE as i128)).unwrap_or(0)),
            Number::Float(_) => {
                Err(Stop::Wrong(format!("{} is not a whole number", self.source_of(argument))))
            }
        }
    }

    fn check_length(&self, length: usize, of: &Expr) -> Result<(), Stop> {
        if length > LONGEST_VALUE {
            let shown = self.source_of(of);
            return Err(Stop::Wrong(format!(
                "{shown} is too long for a filter; at most {LONGEST_VALUE} bytes are allowed"
            )));
        }
        Ok(())
    }

    /// Converts a text; the result is at most three times as long.
    fn converted(
        &mut self,
        value: Value<'a>,
        of: &Expr,
        convert: fn(&str) -> String,
    ) -> Result<Value<'a>, Stop> {
        let text = self.short_text(value, of)?;
        self.budget.converted(text.len())?;
        let converted = convert(&text);
        self.budget.make(converted.len())?;
        Ok(Value::Text(converted.into()))
    }

    /// Joins two texts.
    pub(super) fn joined(&mut self, left: &str, right: &str, of: &Expr) -> Result<Value<'a>, Stop> {
        let length = left.len() + right.len();
        self.check_length(length, of)?;
        self.budget.make(length)?;
        self.budget.bytes(length)?;
        let mut whole = String::with_capacity(length);
        whole.push_str(left);
        whole.push_str(right);
        Ok(Value::Text(whole.into()))
    }

    /// Returns a part of a text, without a copy if the text is borrowed.
    pub(super) fn part(&mut self, text: Cow<'a, str>, from: usize, to: usize) -> Result<Value<'a>, Stop> {
        match text {
            Cow::Borrowed(text) => Ok(Value::text(text.get(from..to).unwrap_or_default())),
            Cow::Owned(text) => {
                let part = text.get(from..to).unwrap_or_default().to_owned();
                self.budget.make(part.len())?;
                Ok(Value::Text(part.into()))
            }
        }
    }

    fn join(&mut self, value: Value<'a>, of: &Expr, separator: Option<&'a Expr>) -> Result<Value<'a>, Stop> {
        let Value::List(items) = value else { return Err(self.wrong_kind(of, &value, "a list")) };
        let separator = match separator {
            Some(separator) => self.argument(separator)?,
            None => "".into(),
        };
        let mut whole = String::new();
        for (place, item) in items.iter().enumerate() {
            self.budget.step()?;
            let text = match Value::from(item) {
                Value::Missing => continue,
                value => self.text(value, of)?,
            };
            let between = if place == 0 { "" } else { &separator };
            let length = between.len() + text.len();
            self.check_length(whole.len() + length, of)?;
            // the capacity of the string may double as it grows
            self.budget.make(2 * length)?;
            self.budget.bytes(length)?;
            whole.push_str(between);
            whole.push_str(&text);
        }
        Ok(Value::Text(whole.into()))
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for c in text.chars() {
        if matches!(c, '-' | '(' | '{' | '[' | '<') || c.is_whitespace() {
            out.push(c);
            begins = true;
        } else if begins {
            out.extend(c.to_uppercase());
            begins = false;
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(chars.as_str().to_lowercase().chars()).collect()
}
