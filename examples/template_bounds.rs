//! Renders templates that are as costly as the language allows, and prints the highest costs.
//!
//! ```text
//! cargo run --release --example template_bounds -- --templates 100000
//! ```
//!
//! The templates are drawn from the whole grammar and rendered with hostile data: texts of 64 KiB, lists of thousands
//! of elements, objects a hundred levels deep, the largest numbers. Time is wall-clock time. A slow rendering is
//! repeated and its fastest run counts, so that a busy machine does not look like a slow template. Memory is the peak
//! allocation of one rendering without its output. The program exits with 1 when a bound is broken.
#![expect(clippy::print_stdout, reason = "the program prints a report")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fanfare::templates::language::{Condition, Escape, Program};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value as Json, json};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The longest time that one rendering may take.
const MOST_TIME: Duration = Duration::from_millis(10);
/// The bytes that one rendering may allocate in addition to its output.
const MOST_MEMORY: usize = 1024 * 1024;
/// The bytes of the longest output, of HTML. They are allocated before a rendering begins, so that they are not
/// counted.
const LONGEST: usize = 1_600_000;
/// The time above which a rendering is repeated, to tell slow templates from a busy machine.
const SEEMS_SLOW: Duration = Duration::from_millis(2);

#[derive(Parser)]
struct Args {
    /// Number of templates to render
    #[arg(long, default_value_t = 100_000)]
    templates: usize,
    /// Seed of the random templates
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn names() -> Vec<&'static str> {
    vec![
        "ascii",
        "wide",
        "growing",
        "spaces",
        "short",
        "list",
        "texts",
        "objects",
        "deep",
        "object",
        "largest",
        "smallest",
        "float",
        "yes",
        "gone",
        "x",
        "y",
        "z",
        "objects[0].name",
        "object.k7",
        "list[3]",
        "texts[-1]",
        "deep.a.a.a",
    ]
}

fn data() -> Map<String, Json> {
    let deep = (0..100).fold(json!("end"), |inner, _| json!({"a": inner, "b": [1, 2, 3]}));
    let object: Map<String, Json> = (0..2000).map(|n| (format!("k{n}"), json!(n))).collect();
    let data = json!({
        "ascii": "x".repeat(65_536), "wide": "😀".repeat(16_384), "growing": "ß".repeat(20_000), "spaces": " ".repeat(65_536),
        "short": "<Anna & \"Bob\">", "list": (0..10_000).collect::<Vec<_>>(), "texts": vec!["<text> & 'more'"; 2000],
        "objects": vec![json!({"name": "tea", "price": 2.5, "tags": ["a", "b"]}); 1000], "deep": deep, "object": object,
        "largest": i64::MAX, "smallest": i64::MIN, "float": 1e308, "yes": true, "gone": null
    });
    data.as_object().cloned().unwrap_or_default()
}

fn expressions() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        6 => prop::sample::select(names()).prop_map(str::to_owned),
        1 => Just("'text'".to_owned()),
        1 => Just("1000000000000".to_owned()),
        1 => Just("1.5".to_owned()),
        1 => Just("['DE', 'AT', 1, 2.5, true]".to_owned()),
        1 => Just("loop.index".to_owned()),
    ];
    let recursive = leaf.prop_recursive(6, 24, 3, |inner| {
        let operators = prop::sample::select(vec![
            "+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or",
        ]);
        let filters = prop::sample::select(vec![
            "upper", "lower", "title", "capitalize", "trim", "length", "first", "last", "int", "float", "round", "abs",
            "join", "default",
        ]);
        let binary = prop::sample::select(vec![
            "append", "prepend", "join", "default", "trim", "plus", "minus", "times", "divided_by", "modulo", "truncate",
        ]);
        let (a, b) = (inner.clone(), inner.clone());
        prop_oneof![
            4 => (a.clone(), operators, b.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            3 => (a.clone(), filters).prop_map(|(a, filter)| format!("({a}) | {filter}")),
            2 => (a.clone(), binary, b.clone()).prop_map(|(a, filter, b)| format!("({a}) | {filter}({b})")),
            1 => (a.clone(), b.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a}) | replace({b}, {c})")),
            1 => (a.clone(), b.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a}) if {b} else ({c})")),
            1 => a.clone().prop_map(|a| format!("not ({a})")),
            1 => a.clone().prop_map(|a| format!("-({a})")),
            1 => (a.clone(), b).prop_map(|(a, b)| format!("({a})[{b}]")),
            1 => a.clone().prop_map(|a| format!("({a})[1:]")),
            1 => a.prop_map(|a| format!("({a}) is defined")),
        ]
    });
    recursive.boxed()
}

fn templates() -> BoxedStrategy<String> {
    let emit = expressions().prop_map(|e| format!("{{{{ {e} }}}}"));
    let quiet = expressions().prop_map(|e| format!("{{% if {e} == 'never' %}}{{% endif %}}"));
    let leaf = prop_oneof![2 => emit, 2 => quiet, 1 => Just("text".to_owned())];
    let recursive = leaf.prop_recursive(5, 30, 4, |inner| {
        let body = prop::collection::vec(inner, 1..4).prop_map(|parts| parts.concat());
        let list = prop::sample::select(vec!["list", "texts", "objects", "object", "deep.b", "list[100:]", "[1, 2, 3]"]);
        let name = prop::sample::select(vec!["x", "y", "z"]);
        prop_oneof![
            4 => (name.clone(), list.clone(), body.clone())
                .prop_map(|(name, list, body)| format!("{{% for {name} in {list} %}}{body}{{% endfor %}}")),
            1 => (name, list, expressions(), body.clone())
                .prop_map(|(name, list, e, body)| format!("{{% for {name} in {list} if {e} %}}{body}{{% endfor %}}")),
            1 => (expressions(), body.clone(), body.clone())
                .prop_map(|(e, a, b)| format!("{{% if {e} %}}{a}{{% else %}}{b}{{% endif %}}")),
            2 => body,
        ]
    });
    recursive.boxed()
}

/// The cost of one call.
struct Cost {
    time: Duration,
    memory: usize,
    is_complete: bool,
}

/// Calls `work` and measures it. `work` returns true if it completed.
fn cost(mut work: impl FnMut() -> bool) -> Cost {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let began = Instant::now();
    let is_complete = work();
    let mut time = began.elapsed();
    let memory = ALLOCATOR.peak_usage().saturating_sub(before);
    for _ in 0..5 {
        if time < SEEMS_SLOW {
            break;
        }
        let began = Instant::now();
        let _ = work();
        time = time.min(began.elapsed());
    }
    Cost { time, memory, is_complete }
}

#[derive(Default)]
struct Worst {
    time: Duration,
    memory: usize,
    slowest: String,
    largest: String,
    count: usize,
    complete: usize,
}

impl Worst {
    fn add(&mut self, cost: &Cost, text: &str) {
        self.count += 1;
        self.complete += usize::from(cost.is_complete);
        if cost.time > self.time {
            (self.time, self.slowest) = (cost.time, text.to_owned());
        }
        if cost.memory > self.memory {
            (self.memory, self.largest) = (cost.memory, text.to_owned());
        }
    }

    fn report(&self, what: &str) {
        let shown = |text: &str| text.chars().take(300).collect::<String>();
        println!(
            "{what}: {} measured, {} completed; the slowest took {:.2} ms, the largest {} KiB besides its output",
            self.count,
            self.complete,
            self.time.as_secs_f64() * 1000.0,
            self.memory / 1024
        );
        println!("  slowest: {}", shown(&self.slowest));
        println!("  largest: {}", shown(&self.largest));
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut seed = [0; 32];
    for (byte, part) in seed.iter_mut().zip(args.seed.to_le_bytes()) {
        *byte = part;
    }
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (texts, conditions, data) = (templates(), expressions(), data());
    let mut output = String::with_capacity(LONGEST);
    let (mut rendering, mut deciding, mut refused) = (Worst::default(), Worst::default(), 0);
    while rendering.count < args.templates {
        let (Ok(text), Ok(condition)) = (texts.new_tree(&mut runner), conditions.new_tree(&mut runner))
        else {
            continue;
        };
        let (text, condition) = (text.current(), condition.current());
        match Program::parse(&text) {
            Ok(program) => {
                let work = || {
                    output.clear();
                    program.render_to(&mut output, &data, (Escape::Html, LONGEST)).is_ok()
                };
                rendering.add(&cost(work), &text);
            }
            Err(_) => refused += 1,
        }
        if let Ok(parsed) = Condition::parse(&condition) {
            let decide = || {
                let _ = parsed.verdict(&data);
                true
            };
            deciding.add(&cost(decide), &condition);
        }
    }
    rendering.report("templates");
    deciding.report("conditions");
    println!("{refused} were refused by the parser");
    let is_kept =
        [&rendering, &deciding].iter().all(|worst| worst.time <= MOST_TIME && worst.memory <= MOST_MEMORY);
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
