//! Evaluates expressions and renders templates. Each step is charged to a budget.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::budget::Budget;
use super::failure::{Evaluated, RenderFailure, Stop, line_of};
use super::number::Number;
use super::operators::Arithmetic;
use super::output::{Escape, RenderOutput};
use super::syntax::{Block, Expr, ExprKind, Loop, LoopField};
use super::value::{Data, Value, boolean};

/// The most characters of an expression in an error.
const SHOWN: usize = 100;

/// The result of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionResult {
    /// The condition is met.
    Holds,
    /// The condition is not met. The text names the part that decided it.
    Fails(String),
}

/// The position in a loop.
#[derive(Debug)]
struct LoopPosition {
    index: usize,
    length: usize,
}

/// One rendering, or one condition.
pub(super) struct Evaluation<'a> {
    source: &'a str,
    data: &'a dyn Data,
    pub(super) budget: Budget,
    /// The values of the loops' names, by slot.
    locals: Vec<Value<'a>>,
    loops: Vec<LoopPosition>,
    /// True for a condition, in which a missing value is false and a wrong kind is unknown.
    pub(super) is_condition: bool,
    /// The offset of the present tag.
    at: usize,
}

impl<'a> Evaluation<'a> {
    pub(super) fn of_template(source: &'a str, data: &'a dyn Data) -> Self {
        Self::new(source, data, Budget::of_template(), false)
    }

    pub(super) fn of_condition(source: &'a str, data: &'a dyn Data) -> Self {
        Self::new(source, data, Budget::of_condition(), true)
    }

    fn new(source: &'a str, data: &'a dyn Data, budget: Budget, is_condition: bool) -> Self {
        Self { source, data, budget, locals: Vec::new(), loops: Vec::new(), is_condition, at: 0 }
    }

    pub(super) fn render(
        mut self,
        blocks: &'a [Block],
        text: &mut String,
        (escape, longest): (Escape, usize),
    ) -> Result<(), RenderFailure> {
        let mut output = RenderOutput { text, escape, longest };
        self.blocks(blocks, &mut output).map_err(|stop| self.failure(stop))
    }

    fn failure(&self, stop: Stop) -> RenderFailure {
        let line = line_of(self.source, self.at);
        match stop {
            Stop::NoValue(placeholder) => RenderFailure::NoValue { placeholder, line },
            // a text of one line needs no line number
            Stop::Wrong(why) if self.source.contains('\n') => {
                RenderFailure::Wrong(format!("{why} in line {line}"))
            }
            Stop::Wrong(why) => RenderFailure::Wrong(why),
            Stop::TooLong => RenderFailure::TooLong,
            Stop::TooMuchWork => RenderFailure::TooMuchWork { line },
        }
    }

    pub(super) fn verdict(mut self, expression: &'a Expr) -> ConditionResult {
        match self.truth(expression) {
            Ok(true) => ConditionResult::Holds,
            Ok(false) => ConditionResult::Fails(self.why_false(expression)),
            Err(Stop::NoValue(what)) => ConditionResult::Fails(format!("{what} has no value")),
            Err(Stop::Wrong(why)) => ConditionResult::Fails(why),
            Err(Stop::TooLong | Stop::TooMuchWork) => ConditionResult::Fails("it takes too much work".into()),
        }
    }

    /// Returns a text that names the part of an expression that made it false.
    fn why_false(&mut self, expression: &'a Expr) -> String {
        match &expression.node {
            ExprKind::And(left, right) => match self.truth(left) {
                Ok(true) => self.why_false(right),
                Ok(false) => self.why_false(left),
                Err(_) => format!("{} is false", self.source_of(expression)),
            },
            ExprKind::Name(_) | ExprKind::Field(..) | ExprKind::Index(..) => match self.value(expression) {
                Ok(Value::Missing) => format!("{} has no value", self.source_of(expression)),
                _ => format!("{} is false", self.source_of(expression)),
            },
            _ => format!("{} is false", self.source_of(expression)),
        }
    }

    /// Returns the source of an expression, for errors.
    pub(super) fn source_of(&self, expression: &Expr) -> String {
        let written = self.source.get(expression.span.clone()).unwrap_or_default();
        match written.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("`{}…`", written.get(..end).unwrap_or_default()),
            None => format!("`{written}`"),
        }
    }

    pub(super) fn no_value(&self, of: &Expr) -> Stop {
        Stop::NoValue(self.source_of(of))
    }

    /// Returns the error for a value of the wrong kind.
    pub(super) fn wrong_kind(&self, of: &Expr, value: &Value<'_>, wanted: &str) -> Stop {
        match value {
            Value::Missing => self.no_value(of),
            value => Stop::Wrong(format!("{} is {}, not {wanted}", self.source_of(of), value.kind())),
        }
    }

    fn blocks(&mut self, blocks: &'a [Block], output: &mut RenderOutput<'_>) -> Evaluated<()> {
        for block in blocks {
            self.budget.step()?;
            match block {
                Block::Text(range) => {
                    let text = self.source.get(range.clone()).unwrap_or_default();
                    self.budget.bytes(text.len())?;
                    output.push(text)?;
                }
                Block::Emit(expression) => {
                    self.at = expression.span.start;
                    let value = self.value(expression)?;
                    self.emit(&value, expression, output)?;
                }
                Block::If(branches) => {
                    for branch in branches {
                        let is_taken = match &branch.condition {
                            Some(condition) => {
                                self.at = condition.span.start;
                                self.truth(condition)?
                            }
                            None => true,
                        };
                        if is_taken {
                            self.blocks(&branch.body, output)?;
                            break;
                        }
                    }
                }
                Block::For(repetition) => self.repeat(repetition, output)?,
            }
        }
        Ok(())
    }

    fn repeat(&mut self, repetition: &'a Loop, output: &mut RenderOutput<'_>) -> Evaluated<()> {
        self.at = repetition.list.span.start;
        let elements = match self.value(&repetition.list)? {
            Value::List(items) => Elements::List(items),
            Value::Map(fields) => Elements::Map(fields),
            other => return Err(self.wrong_kind(&repetition.list, &other, "a list")),
        };
        // `loop.length` and `loop.last` need the number of elements before the first one
        let mut chosen = None;
        if let Some(filter) = &repetition.filter {
            let mut indices: Vec<usize> = Vec::new();
            for (index, element) in elements.iter().enumerate() {
                self.bind(repetition, element)?;
                let holds = self.truth(filter);
                self.locals.truncate(repetition.slot);
                if holds? {
                    // the capacity of the list doubles as it grows
                    self.budget.make(2 * size_of::<usize>())?;
                    indices.push(index);
                }
            }
            chosen = Some(indices);
        }
        let length = chosen.as_ref().map_or(elements.len(), Vec::len);
        if length == 0 {
            return self.blocks(&repetition.otherwise, output);
        }
        self.loops.push(LoopPosition { index: 0, length });
        let mut wanted = chosen.map(|indices| indices.into_iter().peekable());
        for (index, element) in elements.iter().enumerate() {
            self.budget.step()?;
            if let Some(wanted) = &mut wanted
                && wanted.next_if_eq(&index).is_none()
            {
                continue;
            }
            self.at = repetition.list.span.start;
            self.bind(repetition, element)?;
            self.blocks(&repetition.body, output)?;
            self.locals.truncate(repetition.slot);
            if let Some(turn) = self.loops.last_mut() {
                turn.index += 1;
            }
        }
        self.loops.pop();
        Ok(())
    }

    /// Binds the names of a loop to an element.
    fn bind(&mut self, repetition: &'a Loop, (key, value): (Option<&'a str>, Value<'a>)) -> Evaluated<()> {
        self.budget.step()?;
        match (repetition.names, key, value) {
            (1, Some(key), _) => self.locals.push(Value::text(key)),
            (1, None, value) => self.locals.push(value),
            (2, Some(key), value) => self.locals.extend([Value::text(key), value]),
            (names, None, Value::List(parts)) if parts.len() == names => {
                self.locals.extend(parts.iter().map(Value::from));
            }
            (names, _, value) => {
                let list = self.source_of(&repetition.list);
                let kind = value.kind();
                return Err(Stop::Wrong(format!("an element of {list} is {kind}, not {names} values")));
            }
        }
        Ok(())
    }

    /// Returns the value of an expression.
    pub(super) fn value(&mut self, expression: &'a Expr) -> Evaluated<Value<'a>> {
        self.budget.step()?;
        let value = match &expression.node {
            ExprKind::None => Value::Missing,
            ExprKind::Bool(value) => Value::Bool(*value),
            ExprKind::Number(number) => Value::Number(*number),
            ExprKind::Text(text) => Value::text(text),
            ExprKind::List(items) => Value::List(items),
            ExprKind::Name(name) => {
                self.budget.look_up(name)?;
                self.data.get(name)
            }
            ExprKind::Local(slot) => self.locals.get(*slot).cloned().unwrap_or(Value::Missing),
            ExprKind::Loop(field) => self.of_loop(*field),
            ExprKind::Field(of, name) => {
                self.budget.look_up(name)?;
                self.value(of)?.field(name)
            }
            ExprKind::Index(of, index) => self.index(of, index)?,
            ExprKind::Slice(of, from, to) => self.slice(of, from.as_deref(), to.as_deref())?,
            ExprKind::Not(_) | ExprKind::Compare(..) | ExprKind::Test(..) => {
                Value::Bool(self.truth(expression)?)
            }
            ExprKind::Negative(of) => {
                let value = self.value(of)?;
                let number = self.number(value, of)?;
                self.calculate(Arithmetic::Subtract, (Number::Whole(0), number), expression)?
            }
            ExprKind::Arithmetic(operator, left, right) => {
                let (a, b) = (self.value(left)?, self.value(right)?);
                let numbers = (self.number(a, left)?, self.number(b, right)?);
                self.calculate(*operator, numbers, expression)?
            }
            ExprKind::Concat(left, right) => {
                let (a, b) = (self.value(left)?, self.value(right)?);
                let (a, b) = (self.text(a, left)?, self.text(b, right)?);
                self.joined(&a, &b, expression)?
            }
            ExprKind::And(left, right) => {
                let value = self.value(left)?;
                if value.is_true() { self.value(right)? } else { value }
            }
            ExprKind::Or(left, right) => {
                let value = self.value(left)?;
                if value.is_true() { value } else { self.value(right)? }
            }
            ExprKind::Choose(choice) => match (self.truth(&choice.condition)?, &choice.no) {
                (true, _) => self.value(&choice.yes)?,
                (false, Some(no)) => self.value(no)?,
                (false, None) => Value::text(""),
            },
            ExprKind::Filter(filter, of, arguments) => self.filter(*filter, of, arguments)?,
        };
        if let Value::Exact(_) = value {
            // all its digits were parsed to find that `Number` cannot reproduce it
            self.budget.read(&value)?;
        }
        Ok(value)
    }

    fn of_loop(&self, field: LoopField) -> Value<'a> {
        let Some(LoopPosition { index, length }) = self.loops.last() else { return Value::Missing };
        let number = |count: usize| Value::Number(Number::Whole(count as i128));
        match field {
            LoopField::Index => number(index + 1),
            LoopField::Index0 => number(*index),
            LoopField::ReverseIndex => number(length - index),
            LoopField::ReverseIndex0 => number(length - index - 1),
            LoopField::First => Value::Bool(*index == 0),
            LoopField::Last => Value::Bool(index + 1 == *length),
            LoopField::Length => number(*length),
        }
    }

    fn index(&mut self, of: &'a Expr, index: &'a Expr) -> Evaluated<Value<'a>> {
        let (container, index_value) = (self.value(of)?, self.value(index)?);
        Ok(match (container, index_value) {
            (Value::Map(fields), Value::Text(name)) => {
                self.budget.look_up(&name)?;
                fields.get(&*name).into()
            }
            (Value::List(items), Value::Number(Number::Whole(place))) => {
                // a negative index counts from the end
                let place = if place < 0 { place.saturating_add(items.len() as i128) } else { place };
                usize::try_from(place).ok().and_then(|place| items.get(place)).into()
            }
            _ => Value::Missing,
        })
    }

    fn slice(&mut self, of: &'a Expr, from: Option<&'a Expr>, to: Option<&'a Expr>) -> Evaluated<Value<'a>> {
        let value = self.value(of)?;
        let (from, to) = (self.bound(from)?, self.bound(to)?);
        match value {
            Value::List(items) => {
                let (from, to) = places(from, to, items.len());
                Ok(Value::List(items.get(from..to).unwrap_or_default()))
            }
            Value::Text(text) => {
                self.budget.bytes(2 * text.len())?;
                let (from, to) = places(from, to, text.chars().count());
                let offset =
                    |place: usize| text.char_indices().nth(place).map_or(text.len(), |(offset, _)| offset);
                let (from, to) = (offset(from), offset(to));
                self.part(text, from, to)
            }
            other => Err(self.wrong_kind(of, &other, "a list or a text")),
        }
    }

    fn bound(&mut self, bound: Option<&'a Expr>) -> Evaluated<Option<i128>> {
        let Some(bound) = bound else { return Ok(None) };
        let value = self.value(bound)?;
        match self.number(value, bound)? {
            Number::Whole(place) => Ok(Some(place)),
            Number::Float(_) => Err(Stop::Wrong(format!("{} is not a whole number", self.source_of(bound)))),
        }
    }

    /// Returns a value as a number. A text is refused even if it consists of digits, because a sum of texts is a
    /// mistake.
    pub(super) fn number(&mut self, value: Value<'_>, of: &Expr) -> Evaluated<Number> {
        self.budget.read(&value)?;
        value.number().ok_or_else(|| self.wrong_kind(of, &value, "a number"))
    }

    pub(super) fn calculate(
        &mut self,
        operator: Arithmetic,
        (left, right): (Number, Number),
        of: &Expr,
    ) -> Evaluated<Value<'a>> {
        let is_slow = matches!(operator, Arithmetic::Remainder | Arithmetic::Power);
        if is_slow && !matches!((left, right), (Number::Whole(_), Number::Whole(_))) {
            self.budget.slow_arithmetic()?;
        }
        let result = left.calculate(operator, right);
        result.map(Value::Number).map_err(|why| Stop::Wrong(format!("{} {why}", self.source_of(of))))
    }

    /// Returns a value as a text.
    pub(super) fn text(&mut self, value: Value<'a>, of: &Expr) -> Evaluated<Cow<'a, str>> {
        let written = match value {
            Value::Text(text) => return Ok(text),
            Value::Bool(value) => return Ok(boolean(value).into()),
            Value::Number(number) => {
                self.budget.converted(number.width())?;
                number.to_string()
            }
            Value::Exact(number) => {
                self.budget.bytes(number.as_str().len())?;
                return Ok(number.as_str().into());
            }
            other => return Err(self.wrong_kind(of, &other, "a text")),
        };
        self.budget.make(written.len())?;
        Ok(written.into())
    }
}

/// Converts the bounds of a slice to indices from the beginning.
fn places(from: Option<i128>, to: Option<i128>, length: usize) -> (usize, usize) {
    let length = length as i128;
    let place = |bound: Option<i128>, otherwise: i128| {
        let bound = bound.unwrap_or(otherwise);
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        usize::try_from(bound.clamp(0, length)).unwrap_or(0)
    };
    let (from, to) = (place(from, 0), place(to, length));
    (from, to.max(from))
}

/// The elements of a loop.
enum Elements<'a> {
    List(&'a [Json]),
    Map(&'a Map<String, Json>),
}

impl<'a> Elements<'a> {
    fn len(&self) -> usize {
        match self {
            Self::List(items) => items.len(),
            Self::Map(fields) => fields.len(),
        }
    }

    /// Returns the elements; those of an object with their names.
    fn iter(&self) -> impl Iterator<Item = (Option<&'a str>, Value<'a>)> + use<'a> {
        let (items, fields) = match self {
            Self::List(items) => (Some(*items), None),
            Self::Map(fields) => (None, Some(*fields)),
        };
        let items = items.into_iter().flatten().map(|item| (None, Value::from(item)));
        let fields = fields.into_iter().flatten();
        items.chain(fields.map(|(name, value)| (Some(name.as_str()), Value::from(value))))
    }
}
