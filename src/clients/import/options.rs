//! The sender's wishes for a file: how it is read and applied.

use std::str::FromStr;

use encoding_rs::Encoding;
use utoipa::ToSchema;

use super::names::plain;
use super::split::{Cells, Split, split};
use crate::clients::model::{AttributeName, Field};

/// How a file is read and applied. By default everything is found out.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The field by which a row's client is known; by default the first of phone number, external id and e-mail that the file has.
    pub match_by: Option<MatchBy>,
    /// A row with a wrong cell is rejected as a whole.
    pub is_strict: bool,
    /// Everything is checked and nothing stored.
    pub is_dry_run: bool,
    /// Contents of some columns.
    pub mapping: Mapping,
    /// The encoding of the file.
    pub encoding: Option<&'static Encoding>,
}

/// The field by which a row's client is known.
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
    /// In the order in which one is chosen.
    pub const ALL: &[Self] = &[Self::PhoneNumber, Self::ExternalId, Self::Email];

    /// The field that holds it.
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

/// The content that a column is to have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    Field(Field),
    Attribute(AttributeName),
    LeftOut,
}

impl FromStr for Target {
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
            format!("`{text}` is neither a field of a client nor the name of an attribute ({why}) nor -")
        })
    }
}

/// Contents of columns, by their headers: `Header:field,Other:attribute,Third:-`. A header with a comma or a quote in it is
/// quoted with its target as a cell of a CSV file is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapping(Vec<(String, Target)>);

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut cells = Cells::default();
        if split(text.as_bytes(), true, b',', &mut cells) != (Split::Record { length: text.len(), lines: 1 })
        {
            return Err("must be one line of pairs such as Header:field,Other:attribute,Third:-; a pair with a comma is \
                        quoted as a whole"
                .into());
        }
        let mut pairs: Vec<(String, Target)> = Vec::new();
        for pair in cells.iter(text.as_bytes()) {
            let pair = String::from_utf8_lossy(pair);
            let (header, target) = pair.rsplit_once(':').ok_or_else(|| {
                format!(
                    "`{pair}` is no pair of a header and what its column holds, such as Handy:phone_number"
                )
            })?;
            let target: Target = target.trim().parse()?;
            if plain(header).is_empty() {
                return Err(format!("`{pair}` names no header"));
            }
            let has_both = |(other, held): &(String, Target)| {
                plain(other) == plain(header) || (*held == target && target != Target::LeftOut)
            };
            if pairs.iter().any(has_both) {
                return Err(format!("`{pair}` names a header or a target that another pair has"));
            }
            pairs.push((header.trim().to_owned(), target));
        }
        Ok(Self(pairs))
    }
}

impl Mapping {
    /// The content that the column with this plain name is to have.
    pub(super) fn target(&self, plain_name: &str) -> Option<&Target> {
        self.0.iter().find(|(header, _)| plain(header) == plain_name).map(|(_, target)| target)
    }

    /// The headers that it names.
    pub(super) fn headers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(header, _)| header.as_str())
    }

    /// The field that the column with this plain name holds, by the mapping or by usual names.
    pub(super) fn field(&self, plain_name: &str) -> Option<Field> {
        match self.target(plain_name) {
            Some(Target::Field(field)) => Some(*field),
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
        assert_eq!(mapping.target("namefirst"), Some(&Target::Attribute("name".parse().unwrap())));
        assert_eq!(mapping.target("ab"), Some(&Target::Attribute("c".parse().unwrap())));
        assert_eq!(mapping.target("notes"), Some(&Target::LeftOut));
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
