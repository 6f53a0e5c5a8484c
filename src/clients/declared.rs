//! Declared attributes, which have a type: every entry point checks and converts their values.
//!
//! A file has only texts, and any text is true in a condition, even `нет`. Once `member` is declared to be a boolean,
//! every entry point stores `false` for it. Existing values are converted in small steps; values that do not fit stay
//! and are counted. Undeclared attributes keep the type in which they were given.

pub mod convert;
pub mod converter;
pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;
pub mod views;
