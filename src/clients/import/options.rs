//! The options of an import.

use std::str::FromStr;

use encoding_rs::Encoding;
use utoipa::ToSchema;

use super::names::plain;
use super::split::{Cells, Split, split};
use crate::clients::model::{AttributeName, Field};

/// The options of an import. By default everything is detected.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The field that identifies clients; by default the first of phone number, external id and e-mail that the file
    /// has.
    pub match_by: Option<MatchBy>,
    /// True if a row with an invalid cell is rejected as a whole.
    pub is_strict: bool,
    /// True if everything is checked and nothing is stored.
    pub is_dry_run: bool,
    /// The fields of some columns.
    pub mapping: Mapping,
    /// The encoding of the file.
    pub encoding: Option<&'static Encoding>,
}

/// The field that identifies a row's client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum MatchBy {
    /// The phone number.
    #[default]
    PhoneNumber,
    /// The id in another system.
    ExternalId,
    /// The e-mail address, by its normal form.
    Email,
}

impl MatchBy {
    /// Every field, in the order of preference.
    pub const ALL: &[Self] = &[Self::PhoneNumber, Self::ExternalId, Self::Email];

    /// Returns the field of a client.
    pub const fn field(self) -> Field {
        match self {
            Self::PhoneNumber => Field::PhoneNumber,
            Self::ExternalId => Field::ExternalId,
            Self::Email => Field::Email,
        }
    }
}

impl FromStr for MatchBy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().copied().find(|by| by.field().name() == text);
        found.ok_or("must be phone_number, external_id or email")
    }
}

/// The target of a column in a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ColumnTarget {
    Field(Field),
    Attribute(AttributeName),
    LeftOut,
}

impl FromStr for ColumnTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" {
            return Ok(Self::LeftOut);
        }
        if let Some(field) = Field::named(text) {
            return Ok(Self::Field(field));
        }
        let name = text.strip_prefix("attributes.").unwrap_or(text);
        name.parse().map(Self::Attribute).map_err(|why| {
            format!("`{text}` is not a field of a client, the name of an attribute ({why}) or -")
        })
    }
}

/// The targets of columns, by their headers: `Header:field,Other:attribute,Third:-`. A pair that contains a comma or a
/// quote is quoted like a cell of a CSV file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapping(Vec<(String, ColumnTarget)>);

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut cells = Cells::default();
        if split(text.as_bytes(), true, b',', &mut cells) != (Split::Record { length: text.len(), lines: 1 })
        {
            return Err("must be one line of pairs like Header:field,Other:attribute,Third:-; a pair with a comma is \
                        quoted as a whole"
                .into());
        }
        let mut pairs: Vec<(String, ColumnTarget)> = Vec::new();
        for pair in cells.iter(text.as_bytes()) {
            let pair = String::from_utf8_lossy(pair);
            let (header, target) = pair.rsplit_once(':').ok_or_else(|| {
                format!("`{pair}` is not a pair of a header and a target, like Handy:phone_number")
            })?;
            let target: ColumnTarget = target.trim().parse()?;
            if plain(header).is_empty() {
                return Err(format!("`{pair}` has no header"));
            }
            let has_both = |(other, held): &(String, ColumnTarget)| {
                plain(other) == plain(header) || (*held == target && target != ColumnTarget::LeftOut)
            };
            if pairs.iter().any(has_both) {
                return Err(format!("`{pair}` repeats the header or the target of another pair"));
            }
            pairs.push((header.trim().to_owned(), target));
        }
        Ok(Self(pairs))
    }
}

impl Mapping {
    /// Returns the target of the column with this plain name.
    pub(super) fn target(&self, plain_name: &str) -> Option<&ColumnTarget> {
        self.0.iter().find(|(header, _)| plain(header) == plain_name).map(|(_, target)| target)
    }

    /// Returns the headers of the pairs.
    pub(super) fn headers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(header, _)| header.as_str())
    }

    /// Returns the field of the column with this plain name, by the mapping or by common names.
    pub(super) fn field(&self, plain_name: &str) -> Option<Field> {
        match self.target(plain_name) {
            Some(ColumnTarget::Field(field)) => Some(*field),
            Some(_) => None,
            None => super::names::field(plain_name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_names_headers_and_what_their_columns_hold() {
        let mapping: Mapping =
            "Kontakt:phone_number,\"Name, first:name\",a:b:attributes.c, Notes : -".parse().unwrap();
        assert_eq!(mapping.field("kontakt"), Some(Field::PhoneNumber));
        assert_eq!(mapping.target("namefirst"), Some(&ColumnTarget::Attribute("name".parse().unwrap())));
        assert_eq!(mapping.target("ab"), Some(&ColumnTarget::Attribute("c".parse().unwrap())));
        assert_eq!(mapping.target("notes"), Some(&ColumnTarget::LeftOut));
        assert_eq!(mapping.field("phone"), Some(Field::PhoneNumber));
    }

    #[test]
    fn a_mapping_that_is_not_clear_is_refused() {
        for text in [
            "",
            "Phone",
            "Phone:",
            ":email",
            "Phone:no name",
            "A:id",
            "A:email,a:tag",
            "A:tag,B:tag",
            "\"A:tag",
            "A:tag\nB:tag",
        ] {
            assert!(text.parse::<Mapping>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn clients_are_matched_by_one_of_three_fields() {
        assert_eq!("external_id".parse(), Ok(MatchBy::ExternalId));
        assert!("tag".parse::<MatchBy>().is_err());
    }
}
