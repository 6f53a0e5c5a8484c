//! The names of a client's fields.

/// A field of a client that a caller sets with one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `phone_number`
    PhoneNumber,
    /// `mobile_operator_code`
    OperatorCode,
    /// `tag`: sets the list of tags to this one.
    Tag,
    /// `tags`
    Tags,
    /// `timezone`
    Timezone,
    /// `locale`
    Locale,
    /// `email`
    Email,
    /// `push_token`
    PushToken,
    /// `external_id`
    ExternalId,
}

impl Field {
    /// Every field, in the order of the documentation.
    pub const ALL: &[Self] = &[
        Self::PhoneNumber,
        Self::OperatorCode,
        Self::Tag,
        Self::Tags,
        Self::Timezone,
        Self::Locale,
        Self::Email,
        Self::PushToken,
        Self::ExternalId,
    ];

    /// Returns the field's name in the API and in the header of a file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PhoneNumber => "phone_number",
            Self::OperatorCode => "mobile_operator_code",
            Self::Tag => "tag",
            Self::Tags => "tags",
            Self::Timezone => "timezone",
            Self::Locale => "locale",
            Self::Email => "email",
            Self::PushToken => "push_token",
            Self::ExternalId => "external_id",
        }
    }

    /// Returns the field of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// Returns true if a client has a field of this name, which no attribute may then have.
    pub fn is_taken(name: &str) -> bool {
        Self::named(name).is_some() || ["id", "attributes", "created_at", "updated_at"].contains(&name)
    }
}
