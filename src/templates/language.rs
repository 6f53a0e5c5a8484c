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
mod emit;
mod evaluate;
mod failure;
mod filter_names;
mod filters;
mod lexer;
mod number;
mod operators;
mod output;
mod parser;
mod program;
mod syntax;
#[cfg(test)]
mod tests;
mod value;

pub use self::evaluate::ConditionResult;
pub use self::failure::RenderFailure;
pub use self::filters::LONGEST_VALUE;
pub use self::output::Escape;
pub use self::program::{Condition, Program};
pub use self::value::{Data, Value};
