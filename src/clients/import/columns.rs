//! The first line of a file: which column is which.

use std::collections::HashSet;

use csv::ByteRecord;

use super::cells::cells;
use crate::clients::model::{AttributeName, Field};
use crate::error::{Complaints, Error, Result};

/// Columns of attributes that a file may have. A row may fill only as many as a client has attributes; an export has a
/// column for each attribute of any client.
pub const MOST_ATTRIBUTES: usize = 1000;

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Column {
    Field(Field),
    Attribute(AttributeName),
}

impl Column {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Field(field) => field.name(),
            Self::Attribute(name) => name.as_str(),
        }
    }

    fn parse(cell: &[u8]) -> Result<Self, &'static str> {
        let name = std::str::from_utf8(cell).map_err(|_| "the name of a column is not UTF-8")?;
        let name = name.trim();
        match Field::named(name) {
            Some(field) => Ok(Self::Field(field)),
            None if Field::is_taken(name) => Err("is set by the service: leave this column out"),
            None => name.parse().map(Self::Attribute),
        }
    }
}

/// Reads the first line.
///
/// # Errors
/// [`Error::Invalid`] with everything that is wrong with it: nothing of the file can be read then.
pub(super) fn parse(header: &ByteRecord) -> Result<Vec<Column>> {
    let most = Field::ALL.len() + MOST_ATTRIBUTES;
    if header.len() > most {
        // each would have its own complaint, and this may be no CSV at all
        return Err(Error::invalid("columns", format!("are {}; there can be {most}", header.len())));
    }
    let mut wrong = Complaints::default();
    let mut seen = HashSet::new();
    let mut columns = Vec::with_capacity(header.len());
    for cell in cells(header) {
        let shown = String::from_utf8_lossy(cell.get(..100).unwrap_or(cell)).trim().to_owned();
        let Some(column) = wrong.check(&shown, Column::parse(cell)) else {
            continue;
        };
        if !seen.insert(column.name().to_owned()) {
            wrong.add(shown, "is there twice");
        }
        columns.push(column);
    }
    if !columns.contains(&Column::Field(Field::PhoneNumber)) {
        wrong.add(
            "phone_number",
            "is missing: the first line must name the columns, with commas between them",
        );
    }
    wrong.finish().map(|()| columns)
}
