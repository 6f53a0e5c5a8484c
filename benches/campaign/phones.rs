//! The cost of reading a phone number, beside that of reading its digits alone.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use fanfare::clients::model::{HomeCountry, PhoneNumber};

use crate::statistics::Figure;

/// Numbers that are read at a time.
const NUMBERS: u64 = 100_000;

/// Numbers as files have them: what they are, the home country, and how one is written.
type Sort = (&'static str, &'static str, fn(u64) -> String);

/// The last digits differ from number to number.
const SORTS: &[Sort] = &[
    ("RU, as digits", "", |n| format!("7903{:07}", n * 97 % 10_000_000)),
    ("RU, as people write it", "", |n| {
        let (a, b, c) = (n % 900 + 100, n * 7 % 100, n * 13 % 100);
        format!("+7 (903) {a:03}-{b:02}-{c:02}")
    }),
    ("RU, from home", "RU", |n| format!("8903{:07}", n * 97 % 10_000_000)),
    ("DE, from home", "DE", |n| format!("0151 {:08}", n * 97 % 100_000_000)),
    ("GB", "", |n| format!("+44 7400 {:06}", n * 97 % 1_000_000)),
    ("US", "", |n| format!("+1 212 {:03} {:04}", n % 800 + 200, n * 97 % 10_000)),
];

/// The figures of one sort.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Microseconds a number.
    pub took: Figure,
    /// Those of reading the digits of the same text into an integer, which is the least that can be done.
    pub digits: Figure,
}

/// By the name of the sort.
pub type Readings = BTreeMap<&'static str, Reading>;

/// Reads each sort once.
///
/// # Errors
/// A number that is refused: refusing one is another thing than reading it.
pub fn measure(readings: &mut Readings) -> Result<(), &'static str> {
    for (name, home, write) in SORTS {
        let home: HomeCountry = home.parse()?;
        let texts: Vec<String> = (0..NUMBERS).map(write).collect();
        // compiles the patterns of the country
        PhoneNumber::parse(texts.first().map_or("", String::as_str), home)?;
        let began = Instant::now();
        for text in &texts {
            black_box(PhoneNumber::parse(black_box(text), home)?);
        }
        let took = began.elapsed();
        let began = Instant::now();
        for text in &texts {
            black_box(digits(black_box(text)));
        }
        let reading = readings.entry(name).or_default();
        let a_number = |seconds: f64| seconds * 1e6 / NUMBERS as f64;
        reading.took.0.push(a_number(took.as_secs_f64()));
        reading.digits.0.push(a_number(began.elapsed().as_secs_f64()));
    }
    Ok(())
}

fn digits(text: &str) -> u64 {
    let digits = text.bytes().filter(u8::is_ascii_digit);
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
