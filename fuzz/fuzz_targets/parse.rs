//! Parses any text as a template and as a route's condition: it is accepted or refused with a short reason.
#![no_main]

use fanfare::templates::language::{Condition, Program};
use libfuzzer_sys::fuzz_target;

/// The longest error in bytes: it may quote a word of the text, but not much of it.
const LONGEST_ERROR: usize = 1000;

fuzz_target!(|text: &str| {
    for error in [Program::parse(text).err(), Condition::parse(text).err()].into_iter().flatten() {
        assert!(error.len() <= LONGEST_ERROR, "{error}");
    }
});
