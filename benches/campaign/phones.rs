//! The cost of parsing a phone number, compared with parsing only its digits.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use fanfare::clients::model::{HomeCountry, PhoneNumber};

use crate::statistics::Figure;

/// The numbers parsed in one measurement.
const NUMBERS: u64 = 100_000;

/// Numbers as in typical files: a name, the home country, and a function that formats one.
type Sort = (&'static str, &'static str, fn(u64) -> String);

/// The sorts of numbers. The last digits differ from number to number.
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
    /// Microseconds for parsing the digits of the same text into an integer, which is the lower bound.
    pub digits: Figure,
}

/// The figures by the name of the sort.
pub type Readings = BTreeMap<&'static str, Reading>;

/// Measures each sort once.
///
/// # Errors
/// When a number is refused, because refusing has a different cost.
pub fn measure(readings: &mut Readings) -> Result<(), &'static str> {
    for (name, home, write) in SORTS {
        let home: HomeCountry = home.parse()?;
        let texts: Vec<String> = (0..NUMBERS).map(write).collect();
        // the first call compiles the patterns of the country
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
