//! Renders every parsable template with hostile data: it succeeds or fails with a reason, within the bounds of time and
//! output.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use fanfare::templates::language::{Condition, Escape, Program};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

const LONGEST: usize = 64 * 1024;
/// The longest time of a rendering. Its bound is 10 ms of a core, but the instrumentation makes it many times slower.
const MOST_TIME: Duration = Duration::from_secs(2);

static DATA: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let deep = (0..100).fold(json!("end"), |inner, _| json!({"a": inner, "b": [1, 2, 3]}));
    let data = json!({
        "a": "x".repeat(65_536), "b": "ß😀".repeat(5000), "c": (0..5000).collect::<Vec<_>>(),
        "d": vec![json!({"name": "<tea>", "price": 2.5, "tags": ["a", "b"]}); 500], "e": deep, "f": i64::MAX, "g": 1e308,
        "h": true, "i": null, "n": 7, "payload": {"total": "500.00", "country": "DE"}
    });
    data.as_object().cloned().unwrap_or_default()
});

fuzz_target!(|text: &str| {
    let began = Instant::now();
    if let Ok(program) = Program::parse(text) {
        for escape in [Escape::None, Escape::Html, Escape::Percent, Escape::Json] {
            if let Ok(filled) = program.render(&*DATA, escape, LONGEST) {
                assert!(filled.len() <= LONGEST);
            }
        }
    }
    if let Ok(condition) = Condition::parse(text) {
        let _ = condition.verdict(&*DATA);
    }
    assert!(began.elapsed() < MOST_TIME, "it took {:?}", began.elapsed());
});
