//! Attributes that have a type: their values are checked and converted wherever they come in.
//!
//! A file has only texts, and a text is true in every condition, `нет` too. Once `member` is declared to be a boolean, every
//! door stores `false` for it. What clients had before is converted in small steps; what does not fit stays as it is and is
//! counted. Attributes that nobody declared are what they were given as.

pub mod convert;
pub mod converter;
pub mod handler;
pub mod model;
pub mod repo;
pub mod usecase;
