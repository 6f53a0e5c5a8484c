//! Text tables and human-readable numbers.

use crate::statistics::{Figure, Summary, percentile};

/// A table whose columns are as wide as their widest cell. The first columns contain words, the others numbers.
pub struct Table {
    words: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table with this many columns of words.
    pub fn new(words: usize, header: &[&str]) -> Self {
        Self { words, rows: vec![header.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column < self.words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        self.rows.iter().map(line).collect()
    }
}

/// Formats a number with commas between thousands, and with decimals if it is small.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    grouped(&format!("{value:.decimals$}"))
}

/// Formats a count, without decimals.
pub fn count(value: f64) -> String {
    grouped(&format!("{value:.0}"))
}

fn grouped(text: &str) -> String {
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(whole.len() - whole.trim_start_matches('-').len());
    let mut result = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            result.push(',');
        }
        result.push(digit);
    }
    format!("{sign}{result}{rest}")
}

/// Formats the median, followed by the range.
pub fn ranged(figure: &Figure, show: impl Fn(f64) -> String) -> String {
    match figure.summary() {
        None => "-".to_owned(),
        Some(Summary { median, lowest, highest }) if figure.0.len() > 1 => {
            format!("{} ({}–{})", show(median), show(lowest), show(highest))
        }
        Some(summary) => show(summary.median),
    }
}

/// Formats only the median.
pub fn middle(figure: &Figure) -> String {
    figure.summary().map_or_else(|| "-".to_owned(), |summary| number(summary.median))
}

/// Formats the median, the 99th percentile, the maximum and the number of values.
pub fn latency(values: &[f64]) -> [String; 4] {
    let at = |share| percentile(values, share).map_or_else(|| "-".to_owned(), number);
    [at(0.5), at(0.99), at(1.0), count(values.len() as f64)]
}
