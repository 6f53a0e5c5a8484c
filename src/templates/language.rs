//! The language of templates and of routes' conditions: Jinja's syntax, with the cost of every rendering bounded by
//! construction.
//!
//! Users write templates and senders fill them, so both are hostile until proven otherwise. General engines bound neither
//! the memory of one operator (`'x' * 10**9`) nor the stack of a long chain (`not not not …`), and order a text against a
//! number by kind. Here:
//!
//! - Nesting, and the length of a chain of operators, are bounded before the parser recurses ([`parser`]).
//! - No operator and no literal makes a value larger than its operands: lists are the data's own or constants, arithmetic
//!   is on numbers alone, and there is nothing to assign. Only a few filters grow a text, up to [`LONGEST_VALUE`].
//! - Each step and each byte that is looked at is paid for from a [`budget::Budget`], and so is each byte that is made.
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

pub use evaluate::Verdict;
pub use filters::LONGEST_VALUE;
pub use output::Escape;
pub use value::{Data, Value};

use evaluate::Evaluation;
use syntax::{Block, Expr};

/// A text that was parsed.
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
    /// A syntax error in words, with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = parser::template(text)?;
        Ok(Self { source: text.into(), blocks: parsed.blocks, names: parsed.names, paths: parsed.paths })
    }

    /// The names that the data are asked for.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// The names with the fields that are asked of them (`order.id`), and whether each must have a value: where it is used
    /// it has no `default` and is not tested.
    pub fn paths(&self) -> &BTreeMap<String, bool> {
        &self.paths
    }

    /// Fills the text. Values are written as `escape` says, and the result has at most `longest` bytes.
    ///
    /// # Errors
    /// The reason, which names placeholders and repeats no value.
    pub fn render(&self, data: &dyn Data, escape: Escape, longest: usize) -> Result<String, Failure> {
        let mut text = String::new();
        self.render_to(&mut text, data, (escape, longest)).map(|()| text)
    }

    /// As [`Program::render`], behind what the buffer holds. After an error it holds a part of the text.
    ///
    /// # Errors
    /// As [`Program::render`].
    pub fn render_to(
        &self,
        buffer: &mut String,
        data: &dyn Data,
        (escape, longest): (Escape, usize),
    ) -> Result<(), Failure> {
        Evaluation::of_template(&self.source, data).render(&self.blocks, buffer, (escape, longest))
    }
}

/// A condition that was parsed: an expression without text around it.
#[derive(Debug)]
pub struct Condition {
    source: Box<str>,
    expression: Expr,
}

impl Condition {
    /// Parses an expression.
    ///
    /// # Errors
    /// A syntax error in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { source: text.into(), expression: parser::expression(text)? })
    }

    /// Decides whether the condition holds for these data. Comparisons that make no sense for the data are unknown: they
    /// decide neither `and` nor `or`, stay unknown under `not`, and a condition that stays unknown does not hold.
    pub fn verdict(&self, data: &dyn Data) -> Verdict {
        Evaluation::of_condition(&self.source, data).verdict(&self.expression)
    }
}

/// Why a text could not be filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A placeholder has no value: its path, and the line when it belongs to a loop.
    NoValue {
        /// The placeholder as it is written.
        placeholder: String,
        /// The line of the tag.
        line: usize,
    },
    /// A value is not of the kind that is needed, in words that name the placeholder.
    Wrong(String),
    /// The result would be longer than allowed.
    TooLong,
    /// The work or the memory of one rendering is used up.
    TooMuchWork {
        /// The line of the tag where that happened.
        line: usize,
    },
}

/// The number of the line that holds this offset, from 1.
fn line_of(source: &str, offset: usize) -> usize {
    source.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
