//! Parsed templates and conditions.

use std::collections::{BTreeMap, BTreeSet};

use super::evaluate::{ConditionResult, Evaluation};
use super::failure::RenderFailure;
use super::output::Escape;
use super::parser;
use super::syntax::{Block, Expr};
use super::value::Data;

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
