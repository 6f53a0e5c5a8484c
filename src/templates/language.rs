//! The language of templates and of routes' conditions: Jinja's syntax, with the cost of every rendering bounded by
//! construction.
//!
//! Users write templates and senders provide their data, so both are treated as hostile. General engines bound neither
//! the memory of one operator (`'x' * 10**9`) nor the stack of a long chain (`not not not …`), and they order a text
//! and a number by kind. Here:
//!
//! - Nesting, and the length of a chain of operators, are bounded before the parser recurses ([`parser`]).
//! - No operator or literal creates a value larger than its operands: lists come from the data or are constants,
//!   arithmetic accepts only numbers, and there are no assignments. Only a few filters grow a text, up to
//!   [`LONGEST_VALUE`].
//! - Each step, each byte that is read and each byte that is created is charged to a [`budget::Budget`].
//!
//! A rendering borrows its data; only filters copy.

mod budget;
mod compare;
mod evaluate;
mod filters;
mod lexer;
mod number;
mod output;
mod parser;
mod syntax;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{BTreeMap, BTreeSet};

pub use evaluate::ConditionResult;
pub use filters::LONGEST_VALUE;
pub use output::Escape;
pub use value::{Data, Value};

use evaluate::Evaluation;
use syntax::{Block, Expr};

/// A parsed template.
#[derive(Debug)]
pub struct Program {
    source: Box<str>,
    blocks: Vec<Block>,
    names: BTreeSet<String>,
    paths: BTreeMap<String, bool>,
}

impl Program {
    /// Parses a text with tags.
    ///
    /// # Errors
    /// The syntax error, with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = parser::template(text)?;
        Ok(Self { source: text.into(), blocks: parsed.blocks, names: parsed.names, paths: parsed.paths })
    }

    /// Returns the names that are looked up in the data.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Returns the names with their fields (`order.id`), each with true if it must have a value, because it is used
    /// without a `default` or a test.
    pub fn paths(&self) -> &BTreeMap<String, bool> {
        &self.paths
    }

    /// Renders the template. Values are escaped with `escape`, and the result has at most `longest` bytes.
    ///
    /// # Errors
    /// The reason, which names placeholders and contains no value.
    pub fn render(&self, data: &dyn Data, escape: Escape, longest: usize) -> Result<String, RenderFailure> {
        let mut text = String::new();
        self.render_to(&mut text, data, (escape, longest)).map(|()| text)
    }

    /// Does the same as [`Program::render`], and appends the text to a buffer. After an error the buffer has a part of
    /// the text.
    ///
    /// # Errors
    /// As [`Program::render`].
    pub fn render_to(
        &self,
        buffer: &mut String,
        data: &dyn Data,
        (escape, longest): (Escape, usize),
    ) -> Result<(), RenderFailure> {
        Evaluation::of_template(&self.source, data).render(&self.blocks, buffer, (escape, longest))
    }
}

/// A parsed condition: an expression without text around it.
#[derive(Debug)]
pub struct Condition {
    source: Box<str>,
    expression: Expr,
}

impl Condition {
    /// Parses an expression.
    ///
    /// # Errors
    /// The syntax error.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { source: text.into(), expression: parser::expression(text)? })
    }

    /// Evaluates the condition for the data. A comparison that makes no sense for the data is unknown: it decides
    /// neither `and` nor `or`, and stays unknown under `not`. A condition that stays unknown is not met.
    pub fn verdict(&self, data: &dyn Data) -> ConditionResult {
        Evaluation::of_condition(&self.source, data).verdict(&self.expression)
    }
}

/// The reason why a template cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderFailure {
    /// A placeholder has no value.
    NoValue {
        /// The placeholder as it is written.
        placeholder: String,
        /// The line of the tag.
        line: usize,
    },
    /// A value has the wrong kind. The text names the placeholder.
    Wrong(String),
    /// The result would be too long.
    TooLong,
    /// The work or the memory of one rendering is exhausted.
    TooMuchWork {
        /// The line of the tag at which it was exhausted.
        line: usize,
    },
}

/// Returns the number of the line with this offset, from 1.
fn line_of(source: &str, offset: usize) -> usize {
    source.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
