//! Any text is parsed or refused with a short reason: as a template, and as a route's condition.
#![no_main]

use fanfare::templates::language::{Condition, Program};
use libfuzzer_sys::fuzz_target;

/// Bytes of an error: it may repeat a word of the text, never much of it.
const LONGEST_ERROR: usize = 1000;

fuzz_target!(|text: &str| {
    for error in [Program::parse(text).err(), Condition::parse(text).err()].into_iter().flatten() {
        assert!(error.len() <= LONGEST_ERROR, "{error}");
    }
});
