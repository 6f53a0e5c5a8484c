//! The syntax tree of a template.

use std::ops::Range;

use serde_json::Value as Json;

use super::filter_names::TemplateFilter;
use super::number::Number;
use super::operators::{Arithmetic, Comparison};

/// A part of a template, in the order of the text.
#[derive(Debug)]
pub enum Block {
    /// Text between tags: bytes of the source.
    Text(Range<usize>),
    /// `{{ expression }}`
    Emit(Expr),
    /// `{% if %}` with its branches; the last has no condition if it is an `{% else %}`.
    If(Vec<Branch>),
    /// `{% for %}`
    For(Box<Loop>),
}

/// One branch of an `{% if %}`.
#[derive(Debug)]
pub struct Branch {
    /// The condition; `None` for `{% else %}`.
    pub condition: Option<Expr>,
    /// The text.
    pub body: Vec<Block>,
}

/// A loop over a list, or over the keys of an object.
#[derive(Debug)]
pub struct Loop {
    /// The number of names to which each element is bound: one, or the number of an element's parts.
    pub names: usize,
    /// The slot of the first of these names.
    pub slot: usize,
    /// The list.
    pub list: Expr,
    /// The condition for elements; others are skipped.
    pub filter: Option<Expr>,
    /// The text for each element.
    pub body: Vec<Block>,
    /// The text for a list without elements.
    pub otherwise: Vec<Block>,
}

/// An expression and its position in the source, which errors quote.
#[derive(Debug)]
pub struct Expr {
    /// The computation.
    pub node: ExprKind,
    /// Bytes of the source.
    pub span: Range<usize>,
}

/// A kind of expression.
#[derive(Debug)]
pub enum ExprKind {
    /// `none`
    None,
    /// `true`, `false`
    Bool(bool),
    /// `1`, `2.5`
    Number(Number),
    /// `'text'`
    Text(Box<str>),
    /// A list of constants.
    List(Vec<Json>),
    /// A name of the data.
    Name(Box<str>),
    /// A name that a loop binds, as its slot.
    Local(usize),
    /// A field of the innermost loop, such as `loop.index`.
    Loop(LoopField),
    /// `of.name`
    Field(Box<Expr>, Box<str>),
    /// `of[index]`
    Index(Box<Expr>, Box<Expr>),
    /// `of[from:to]`
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    /// `not expression`
    Not(Box<Expr>),
    /// `-expression`
    Negative(Box<Expr>),
    /// `left + right`
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    /// `left ~ right`
    Concat(Box<Expr>, Box<Expr>),
    /// `first < second < third`
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    /// `left and right`
    And(Box<Expr>, Box<Expr>),
    /// `left or right`
    Or(Box<Expr>, Box<Expr>),
    /// `yes if condition else no`
    Choose(Box<Choice>),
    /// `of | filter(arguments)`
    Filter(TemplateFilter, Box<Expr>, Vec<Expr>),
    /// `of is test`
    Test(Test, Box<Expr>),
}

/// The parts of `yes if condition else no`.
#[derive(Debug)]
pub struct Choice {
    /// The condition.
    pub condition: Expr,
    /// The value if it is true.
    pub yes: Expr,
    /// The value if it is false; empty if absent.
    pub no: Option<Expr>,
}

/// A field of `loop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopField {
    /// Counts up from 1.
    Index,
    /// Counts up from 0.
    Index0,
    /// Counts down to 1.
    ReverseIndex,
    /// Counts down to 0.
    ReverseIndex0,
    /// True for the first element.
    First,
    /// True for the last element.
    Last,
    /// The number of elements.
    Length,
}

impl LoopField {
    /// All fields with their names.
    pub const ALL: &[(&str, Self)] = &[
        ("index", Self::Index),
        ("index0", Self::Index0),
        ("revindex", Self::ReverseIndex),
        ("revindex0", Self::ReverseIndex0),
        ("first", Self::First),
        ("last", Self::Last),
        ("length", Self::Length),
    ];
}

/// A test after `is`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// There is a value.
    Defined,
    /// There is no value.
    Undefined,
    /// It is a text.
    Text,
    /// It is a number.
    Number,
}

impl Test {
    /// All tests with their names.
    pub const ALL: &[(&str, Self)] = &[
        ("defined", Self::Defined),
        ("undefined", Self::Undefined),
        ("none", Self::Undefined),
        ("string", Self::Text),
        ("number", Self::Number),
    ];
}
