//! The mapping of columns to fields and attributes.

use std::collections::HashSet;

use super::names::{is_opt_out, plain};
use super::options::{ColumnTarget, Mapping};
use super::report::{MappedColumn, Warning};
use crate::clients::model::{AttributeName, Field};

/// The number of characters of a header that reports show.
const SHOWN: usize = 100;

/// The largest number of attribute columns of a file. A row may fill only as many as a client may have attributes, but
/// an export has a column for each attribute of any client.
pub const MOST_ATTRIBUTES: usize = 1000;
/// The largest number of columns of a file.
pub(super) const MOST_COLUMNS: usize = MOST_ATTRIBUTES + Field::ALL.len();

/// The target of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Column {
    Field(Field),
    Attribute(AttributeName),
    /// An object of attributes as JSON.
    Attributes,
    /// A column that is skipped.
    LeftOut,
    /// A column without a header, whose cells have no name.
    Unnamed,
}

/// A rule that returns the field of a header, given the header and its plain name.
type Rank<'r> = dyn Fn(&str, &str) -> Option<Field> + 'r;

/// The columns of a file.
#[derive(Debug, Default)]
pub(super) struct FileColumns {
    pub(super) all: Vec<Column>,
    pub(super) mapping: Vec<MappedColumn>,
    pub(super) warnings: Vec<Warning>,
}

impl FileColumns {
    /// Maps the columns: first by the mapping, then by the names of fields, then by common names, from left to right.
    /// The first column for a field sets it; a second one becomes an attribute, so that no data is lost.
    pub(super) fn of(headers: &[String], line: u64, mapping: &Mapping) -> Self {
        let mut fields: Vec<Option<Field>> = vec![None; headers.len()];
        let plain_names: Vec<String> = headers.iter().map(|header| plain(header)).collect();
        let ranks: [&Rank<'_>; 4] = [
            &|_, plain| mapping.target(plain).and_then(|_| mapping.field(plain)),
            &|header, plain| Field::named(header).filter(|_| mapping.target(plain).is_none()),
            // a file with the ids of this service has a column of external ids as well
            &|_, plain| mapping.field(plain).filter(|_| plain != "id"),
            &|_, plain| mapping.field(plain),
        ];
        let mut taken: HashSet<Field> = HashSet::new();
        for rank in ranks {
            for ((header, plain), field) in headers.iter().zip(&plain_names).zip(&mut fields) {
                if field.is_none() {
                    *field = rank(header, plain).filter(|found| taken.insert(*found));
                }
            }
        }
        let mut columns = Self::default();
        let mut names: HashSet<String> = HashSet::new();
        for target in plain_names.iter().filter_map(|plain| mapping.target(plain)) {
            if let ColumnTarget::Attribute(name) = target {
                names.insert(name.as_str().to_owned());
            }
        }
        for (at, (header, field)) in headers.iter().zip(fields).enumerate() {
            let plain = plain_names.get(at).map_or("", String::as_str);
            let column = match (field, mapping.target(plain)) {
                (Some(field), _) => Column::Field(field),
                (None, Some(ColumnTarget::Attribute(name))) => Column::Attribute(name.clone()),
                (None, Some(ColumnTarget::LeftOut)) => Column::LeftOut,
                (None, _) if header.is_empty() => Column::Unnamed,
                (None, _) if header == "attributes" => Column::Attributes,
                (None, _) if Field::is_taken(header) && Field::named(header).is_none() => Column::LeftOut,
                (None, _) => Column::Attribute(attribute_name(header, at, &mut names)),
            };
            columns.push(header, column, (at, line, plain), mapping);
        }
        columns
    }

    fn push(
        &mut self,
        header: &str,
        column: Column,
        (at, line, plain): (usize, u64, &str),
        mapping: &Mapping,
    ) {
        let mut mapped = MappedColumn { column: at + 1, header: shown(header), ..MappedColumn::default() };
        let mut warn = |reason: String| {
            self.warnings.push(Warning { line, field: shown(header), reason });
        };
        let mapped_by_sender = mapping.target(plain).is_some();
        match &column {
            Column::Field(field) => mapped.field = Some(field.name().into()),
            Column::Attributes => mapped.field = Some("attributes".into()),
            Column::Attribute(name) => {
                mapped.attribute = Some(name.to_string());
                if let Some(field) = mapping.field(plain).filter(|_| !mapped_by_sender) {
                    warn(format!(
                        "another column already sets {}: this one is the attribute {name}; use mapping to choose the \
                         column",
                        field.name()
                    ));
                } else if is_opt_out(plain) && !mapped_by_sender {
                    warn(format!(
                        "looks like an opt-out but was imported as the attribute {name}; import opt-outs with POST \
                         /api/v1/suppressions/import"
                    ));
                }
            }
            Column::LeftOut if mapped_by_sender => mapped.left_out = Some("skipped by the mapping".into()),
            Column::LeftOut => {
                let why = "is set by the service";
                mapped.left_out = Some(why.into());
                warn(format!("{why}; the column was skipped"));
            }
            Column::Unnamed => mapped.left_out = Some("has no header".into()),
        }
        self.all.push(column);
        self.mapping.push(mapped);
    }

    /// Returns the smallest number of cells of a row: up to the last column with a header.
    pub(super) fn needed(&self) -> usize {
        self.all.iter().rposition(|column| !matches!(column, Column::Unnamed)).map_or(0, |at| at + 1)
    }

    /// Returns the index of a field's column.
    pub(super) fn place(&self, field: Field) -> Option<usize> {
        self.all.iter().position(|column| *column == Column::Field(field))
    }
}

/// Returns a header, shortened if it is long.
pub(super) fn shown(header: &str) -> String {
    match header.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", header.get(..end).unwrap_or_default()),
        None => header.to_owned(),
    }
}

/// Returns the name of the attribute for a column without a field: the header itself, or a name derived from it that
/// a placeholder can use.
fn attribute_name(header: &str, at: usize, taken: &mut HashSet<String>) -> AttributeName {
    let base = match header.parse::<AttributeName>() {
        Ok(_) => header.to_owned(),
        Err(_) => snake_case(header, at),
    };
    let short = base.get(..59).unwrap_or(&base);
    let mut candidate = base.clone();
    let mut number = 1;
    // the loop ends, because a file has at most MOST_COLUMNS columns
    loop {
        let free = candidate.parse::<AttributeName>().ok().filter(|name| !taken.contains(name.as_str()));
        if let Some(name) = free {
            taken.insert(candidate);
            return name;
        }
        number += 1;
        candidate = format!("{short}_{number}");
    }
}

/// Converts a header to Latin letters and digits in lower case, with `_` between the words; `column_3` if there are
/// none.
fn snake_case(header: &str, at: usize) -> String {
    let mut name = String::new();
    for c in any_ascii::any_ascii(header).chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('_') && c != '\'' {
            name.push('_');
        }
        if name.len() >= 60 {
            break;
        }
    }
    let name = name.trim_end_matches('_');
    match name.chars().next() {
        None => format!("column_{}", at + 1),
        Some(first) if first.is_ascii_digit() => format!("_{name}"),
        Some(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(headers: &[&str], mapping: &str) -> Vec<String> {
        let headers: Vec<_> = headers.iter().map(|header| (*header).to_owned()).collect();
        let mapping = if mapping.is_empty() { Mapping::default() } else { mapping.parse().unwrap() };
        let columns = FileColumns::of(&headers, 1, &mapping);
        let text = |column: &Column| match column {
            Column::Field(field) => field.name().to_owned(),
            Column::Attribute(name) => format!("attributes.{name}"),
            other => format!("{other:?}"),
        };
        columns.all.iter().map(text).collect()
    }

    #[test]
    fn columns_hold_fields_or_attributes_and_nothing_is_lost() {
        assert_eq!(
            held(&["Телефон", "Имя", "Город Щёлково"], ""),
            ["phone_number", "attributes.imya", "attributes.gorod_shchelkovo"]
        );
        assert_eq!(
            held(&["Phone", "phone_number", "Mobile", "Name", "Name", "", "1st visit", "%"], ""),
            [
                "attributes.Phone",
                "phone_number",
                "attributes.Mobile",
                "attributes.Name",
                "attributes.Name_2",
                "Unnamed",
                "attributes._1st_visit",
                "attributes.column_8"
            ]
        );
        assert_eq!(held(&["id", "phone", "created_at"], ""), ["external_id", "phone_number", "LeftOut"]);
        assert_eq!(held(&["id", "external_id", "attributes"], ""), ["LeftOut", "external_id", "Attributes"]);
        assert_eq!(
            held(&["phone_number", "phone_number"], ""),
            ["phone_number", "attributes.phone_number_2"]
        );
    }

    #[test]
    fn a_mapping_overrules_names() {
        assert_eq!(
            held(&["Phone", "Kontakt", "Name", "Vorname", "Tag"], "Kontakt:phone_number,vorname:Name,Tag:-"),
            ["attributes.Phone", "phone_number", "attributes.Name_2", "attributes.Name", "LeftOut"]
        );
    }

    #[test]
    fn a_column_of_opt_outs_is_named() {
        let columns = FileColumns::of(&["phone".into(), "HasOptedOutOfEmail".into()], 3, &Mapping::default());
        let [warning] = columns.warnings.as_slice() else { panic!("{:?}", columns.warnings) };
        assert_eq!((warning.line, warning.field.as_str()), (3, "HasOptedOutOfEmail"));
        assert!(warning.reason.contains("opt-out"));
    }

    proptest! {
        #[test]
        fn every_header_has_a_name_of_its_own(headers in prop::collection::vec("\\PC{0,80}|[ab_]{1,2}|id", 1..20)) {
            let columns = FileColumns::of(&headers, 1, &Mapping::default());
            let names: Vec<_> = columns.all.iter().filter_map(|column| match column {
                Column::Field(field) => Some(field.name().to_owned()),
                Column::Attribute(name) => Some(name.to_string()),
                _ => None,
            }).collect();
            prop_assert_eq!(columns.all.len(), headers.len());
            prop_assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        }
    }
}
