//! Figures of imports, as tables and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::args::Kind;
use crate::phones::Readings;
use crate::statistics::Figure;
use crate::table::{Table, count, middle, number, ranged};

/// The program that imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// The measured program.
    This,
    /// The program of `--against`.
    Other,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::This => "this",
            Self::Other => "other",
        }
    }
}

/// The figures of one program on one database.
#[derive(Debug, Clone, Default)]
pub struct Import {
    pub rows_per_second: Figure,
    /// The peak memory in megabytes, less the memory at rest.
    pub memory: Figure,
    /// Microseconds of CPU a row.
    pub cpu_service: Figure,
    pub cpu_database: Figure,
    /// The percentage of the machine used by unrelated processes.
    pub cpu_others: Figure,
}

pub type Imports = BTreeMap<(Kind, Program), Import>;

/// Returns the rate of this program divided by that of the other one, round by round.
fn over_other(imports: &Imports, kind: Kind, program: Program) -> Figure {
    match (imports.get(&(kind, program)), imports.get(&(kind, Program::Other))) {
        (Some(import), Some(other)) if program == Program::This => {
            import.rows_per_second.over(&other.rows_per_second)
        }
        _ => Figure::default(),
    }
}

/// Returns the table of imports, or `None` if none were measured.
pub fn imports_text(imports: &Imports, rows: u64) -> Option<String> {
    let mut table = Table::new(
        2,
        &[
            "database",
            "program",
            "rows/s",
            "over the other",
            "MB over rest",
            "CPU µs: service",
            "database",
            "others %",
        ],
    );
    for ((kind, program), import) in imports {
        table.row(vec![
            kind.name().to_owned(),
            program.name().to_owned(),
            ranged(&import.rows_per_second, count),
            ranged(&over_other(imports, *kind, *program), number),
            ranged(&import.memory, number),
            middle(&import.cpu_service),
            middle(&import.cpu_database),
            ranged(&import.cpu_others, number),
        ]);
    }
    let title = format!("Imports of {} clients from CSV (CPU for one row)", count(rows as f64));
    (!imports.is_empty()).then(|| format!("{title}\n{}", table.text()))
}

/// Returns the table of phone numbers, or `None` if none were measured.
pub fn phones_text(readings: &Readings) -> Option<String> {
    let mut table = Table::new(1, &["number", "µs", "over its digits"]);
    for (sort, reading) in readings {
        table.row(vec![
            (*sort).to_owned(),
            ranged(&reading.took, number),
            ranged(&reading.took.over(&reading.digits), number),
        ]);
    }
    (!readings.is_empty()).then(|| format!("Reading a phone number\n{}", table.text()))
}

/// Returns both tables as JSON.
pub fn uploads_json(imports: &Imports, rows: u64, readings: &Readings) -> Value {
    let imports = imports.iter().map(|((kind, program), import)| {
        json!({
            "database": kind.name(),
            "program": program.name(),
            "rows": rows,
            "rows_per_second": import.rows_per_second.json(),
            "over_other": over_other(imports, *kind, *program).json(),
            "memory_mb_over_rest": import.memory.json(),
            "cpu_service_us_a_row": import.cpu_service.json(),
            "cpu_database_us_a_row": import.cpu_database.json(),
            "cpu_others_percent": import.cpu_others.json(),
        })
    });
    let numbers = readings.iter().map(|(sort, reading)| {
        json!({
            "number": sort,
            "us": reading.took.json(),
            "over_digits": reading.took.over(&reading.digits).json(),
        })
    });
    json!({"files": imports.collect::<Vec<_>>(), "phone_numbers": numbers.collect::<Vec<_>>()})
}
