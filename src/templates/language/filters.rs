//! The filters. What grows a text checks its size before it does.

use std::borrow::Cow;

use super::evaluate::{Evaluation, Stop};
use super::number::{Number, WIDEST};
use super::syntax::{Arithmetic, Expr};
use super::value::Value;

/// Bytes of a text that a filter takes or makes.
pub const LONGEST_VALUE: usize = 64 * 1024;
/// Decimal places that a number is rounded to.
const MOST_PLACES: i128 = 20;

/// A filter behind `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Another value where there is none; with a second argument also where it counts as false.
    Default,
    /// Upper case.
    Upper,
    /// Lower case.
    Lower,
    /// The first letter of each word in upper case.
    Title,
    /// The first letter in upper case, the others in lower case.
    Capitalize,
    /// Without spaces, or these characters, at both ends.
    Trim,
    /// Each occurrence of a text replaced.
    Replace,
    /// With a text behind it.
    Append,
    /// With a text before it.
    Prepend,
    /// The first characters, and `…` where there are more.
    Truncate,
    /// The elements of a list with a text between them.
    Join,
    /// The number of elements or characters.
    Length,
    /// The first element or character.
    First,
    /// The last element or character.
    Last,
    /// The whole part of a number.
    Int,
    /// A number, read from a text where it is one.
    Float,
    /// Rounded to so many decimal places.
    Round,
    /// Without its sign.
    Abs,
    /// The result of an operator.
    Calculate(Arithmetic),
}

/// Each filter with the fewest and the most arguments.
const FILTERS: &[(&str, Filter, usize, usize)] = &[
    ("default", Filter::Default, 0, 2),
    ("upper", Filter::Upper, 0, 0),
    ("lower", Filter::Lower, 0, 0),
    ("title", Filter::Title, 0, 0),
    ("capitalize", Filter::Capitalize, 0, 0),
    ("trim", Filter::Trim, 0, 1),
    ("replace", Filter::Replace, 2, 2),
    ("append", Filter::Append, 1, 1),
    ("prepend", Filter::Prepend, 1, 1),
    ("truncate", Filter::Truncate, 1, 2),
    ("join", Filter::Join, 0, 1),
    ("length", Filter::Length, 0, 0),
    ("first", Filter::First, 0, 0),
    ("last", Filter::Last, 0, 0),
    ("int", Filter::Int, 0, 1),
    ("float", Filter::Float, 0, 1),
    ("round", Filter::Round, 0, 1),
    ("abs", Filter::Abs, 0, 0),
    ("plus", Filter::Calculate(Arithmetic::Add), 1, 1),
    ("minus", Filter::Calculate(Arithmetic::Subtract), 1, 1),
    ("times", Filter::Calculate(Arithmetic::Multiply), 1, 1),
    ("divided_by", Filter::Calculate(Arithmetic::Divide), 1, 1),
    ("modulo", Filter::Calculate(Arithmetic::Remainder), 1, 1),
];

impl Filter {
    /// The filter of this name.
    ///
    /// # Errors
    /// Lists the filters.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        if let Some((_, filter, ..)) = FILTERS.iter().find(|(known, ..)| *known == name) {
            return Ok(*filter);
        }
        let name: String = name.chars().take(60).collect();
        let known: Vec<_> = FILTERS.iter().map(|(name, ..)| *name).collect();
        Err(format!("there is no filter `{name}`; the filters are {}", known.join(", ")))
    }

    /// # Errors
    /// The number of arguments that the filter takes.
    pub(super) fn check_arguments(self, name: &str, count: usize) -> Result<(), String> {
        let entry = FILTERS.iter().find(|(_, filter, ..)| *filter == self);
        match entry {
            Some((.., fewest, most)) if !(*fewest..=*most).contains(&count) => Err(match (fewest, most) {
                (_, 0) => format!("the filter `{name}` takes no arguments"),
                (1, 1) => format!("the filter `{name}` takes one argument"),
                (fewest, most) if fewest == most => format!("the filter `{name}` takes {most} arguments"),
                (fewest, most) => format!("the filter `{name}` takes {fewest} to {most} arguments"),
            }),
            _ => Ok(()),
        }
    }
}

impl<'a> Evaluation<'a> {
    /// The value of `of | filter(arguments)`.
    pub(super) fn filter(
        &mut self,
        filter: Filter,
        of: &'a Expr,
        arguments: &'a [Expr],
    ) -> Result<Value<'a>, Stop> {
        let value = self.value(of)?;
        let first = arguments.first();
        match filter {
            Filter::Default => {
                let is_lax = match arguments.get(1) {
                    Some(lax) => self.truth(lax)?,
                    None => false,
                };
                if !value.is_missing() && (!is_lax || value.is_true()) {
                    return Ok(value);
                }
                first.map_or(Ok(Value::text("")), |other| self.value(other))
            }
            Filter::Upper => self.converted(value, of, str::to_uppercase),
            Filter::Lower => self.converted(value, of, str::to_lowercase),
            Filter::Title => self.converted(value, of, title),
            Filter::Capitalize => self.converted(value, of, capitalize),
            Filter::Trim => {
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
            Filter::Replace => {
                let text = self.short_text(value, of)?;
                let (Some(from), Some(to)) = (first, arguments.get(1)) else { return Ok(Value::Text(text)) };
                let (from, to) = (self.argument(from)?, self.argument(to)?);
                // the search looks through both
                self.budget.converted(text.len() + from.len())?;
                let grows_by = to.len().saturating_mul(text.matches(&*from).count());
                self.check_length(text.len().saturating_add(grows_by), of)?;
                let replaced = text.replace(&*from, &to);
                self.budget.make(replaced.len())?;
                Ok(Value::Text(replaced.into()))
            }
            Filter::Append | Filter::Prepend => {
                let text = self.short_text(value, of)?;
                let Some(other) = first else { return Ok(Value::Text(text)) };
                let other = self.argument(other)?;
                if filter == Filter::Append {
                    self.joined(&text, &other, of)
                } else {
                    self.joined(&other, &text, of)
                }
            }
            Filter::Truncate => {
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
            Filter::Join => self.join(value, of, first),
            Filter::Length => {
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
            Filter::First | Filter::Last => match value {
                Value::List(items) if filter == Filter::First => Ok(items.first().into()),
                Value::List(items) => Ok(items.last().into()),
                Value::Text(text) => {
                    let first = text.chars().next().map_or(0, char::len_utf8);
                    let last = text.chars().next_back().map_or(0, char::len_utf8);
                    let (from, to) =
                        if filter == Filter::First { (0, first) } else { (text.len() - last, text.len()) };
                    self.part(text, from, to)
                }
                other => Err(self.wrong_kind(of, &other, "a list or a text")),
            },
            Filter::Int | Filter::Float => {
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
                    Filter::Int => number.truncated(),
                    _ => Number::Float(number.as_f64()),
                }))
            }
            Filter::Round => {
                let number = self.number(value, of)?;
                let places = match first {
                    Some(_) => self.count_of(first)?.min(MOST_PLACES as usize),
                    None => 0,
                };
                self.budget.make(WIDEST)?;
                self.budget.converted(number.width() + places)?;
                Ok(Value::Number(number.rounded(places)))
            }
            Filter::Abs => Ok(Value::Number(self.number(value, of)?.abs())),
            Filter::Calculate(operator) => {
                let number = self.number(value, of)?;
                let Some(other) = first else { return Ok(Value::Number(number)) };
                let right = self.value(other)?;
                let right = self.number(right, other)?;
                self.calculate(operator, (number, right), of)
            }
        }
    }

    /// The number that a value is, or that its text is.
    fn read_number(&mut self, value: &Value<'_>) -> Result<Option<Number>, Stop> {
        self.budget.read(value)?;
        Ok(match value {
            Value::Text(text) => Number::read(text),
            other => other.number(),
        })
    }

    /// The value as a text that a filter may take.
    fn short_text(&mut self, value: Value<'a>, of: &Expr) -> Result<Cow<'a, str>, Stop> {
        let text = self.text(value, of)?;
        self.check_length(text.len(), of)?;
        Ok(text)
    }

    fn argument(&mut self, argument: &'a Expr) -> Result<Cow<'a, str>, Stop> {
        let value = self.value(argument)?;
        self.short_text(value, argument)
    }

    /// An argument that is a number of characters or places.
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

    /// The text converted; no character becomes more than three times as long.
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

    /// Two texts as one.
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

    /// A part of a text, without a copy where it is the data's.
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
            // the string may double as it grows
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
