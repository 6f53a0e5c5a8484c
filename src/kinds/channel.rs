//! The channels, and everything that follows from the channel of a message alone.

coded_enum! {
    /// The channel through which a message reaches its recipient.
    ChannelKind {
        /// A text message to a phone.
        Sms = 1 "sms",
        /// An e-mail.
        Email = 2 "email",
        /// A push notification on a device.
        Push = 3 "push",
        /// A request to the recipient's URL.
        Webhook = 4 "webhook",
        /// A message in a Discord channel, through the URL of its webhook.
        Discord = 5 "discord",
        /// A message in a user's inbox.
        InApp = 6 "in_app",
        /// A scheduled HTTP request. It is not for messages to people.
        Request = 7 "request",
    }
}

/// The properties of a channel. Code that depends on the channel reads them here instead of naming channels.
#[derive(Debug)]
pub struct ChannelSpec {
    /// The syntax of its addresses.
    pub address: AddressSyntax,
    /// The part of a client that is its address on the channel.
    pub client: ClientAddress,
    /// The limits of a text.
    pub text: TextLimits,
    /// The rule for the subject.
    pub subject: SubjectRule,
    /// True if its messages have an HTML part.
    pub shows_html: bool,
    /// True if its messages have a header with a link to unsubscribe.
    pub has_unsubscribe_link: bool,
    /// True if its messages contain the event that caused them, so that a route needs no template.
    pub carries_events: bool,
    /// The provider of the channel without a gateway.
    pub direct: DirectProvider,
}

/// The syntax of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressSyntax {
    /// A phone number in E.164.
    Phone,
    /// An e-mail address.
    Email,
    /// A token, which may be any text.
    Token,
    /// A user's id.
    UserId,
    /// An http or https URL, whose server egress must allow.
    Url,
}

/// The part of a client that is its address on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// The phone number.
    PhoneNumber,
    /// The e-mail address.
    Email,
    /// The push token.
    PushToken,
    /// The external id, or the id if there is none.
    Id,
    /// The URL in an attribute.
    Attribute(&'static str),
    /// Nothing: the channel is not for messages to people.
    Nothing,
}

impl ClientAddress {
    /// Returns the name of the field or attribute, which also names such an address in an event.
    pub const fn field(self) -> Option<&'static str> {
        match self {
            Self::PhoneNumber => Some("phone_number"),
            Self::Email => Some("email"),
            Self::PushToken => Some("push_token"),
            Self::Attribute(name) => Some(name),
            Self::Id | Self::Nothing => None,
        }
    }

    /// Returns true if no two clients have the same address.
    pub const fn is_unique(self) -> bool {
        matches!(self, Self::PhoneNumber | Self::Id)
    }
}

/// The limits of a text, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// The most characters of a template.
    pub template: usize,
    /// The most characters of a filled text.
    pub filled: usize,
    /// True if the text is sent in segments, which previews count.
    pub has_segments: bool,
}

/// The rule for the subject of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectRule {
    /// A template must have one.
    Required,
    /// A message may have one.
    Optional,
    /// The channel cannot show one.
    Forbidden,
}

/// The provider of a channel without a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectProvider {
    /// The one that its section of the configuration names.
    Configured,
    /// The servers of the addresses. While SMS has no provider and the sandbox's address is set, the sandbox is used
    /// instead, so that nothing leaves the machine.
    Recipients,
    /// The service itself, which needs no rate limit.
    Service,
}

/// The channels for messages to people, as an OpenAPI schema.
pub struct ChannelToPeople;

impl utoipa::PartialSchema for ChannelToPeople {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let words = ChannelKind::TO_PEOPLE.iter().map(|channel| channel.as_str());
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .enum_values(Some(words))
            .description(Some("The channel through which a message reaches its recipient."))
            .into()
    }
}

impl utoipa::ToSchema for ChannelToPeople {}

impl ChannelKind {
    /// The channels for messages to people.
    pub const TO_PEOPLE: &[Self] =
        &[Self::Sms, Self::Email, Self::Push, Self::Webhook, Self::Discord, Self::InApp];

    /// Parses the word of a channel for messages to people.
    ///
    /// # Errors
    /// The list of valid words.
    pub fn to_people(word: &str) -> Result<Self, String> {
        let found = Self::TO_PEOPLE.iter().find(|channel| channel.as_str() == word);
        found.copied().ok_or_else(|| {
            let words: Vec<&str> = Self::TO_PEOPLE.iter().map(|channel| channel.as_str()).collect();
            format!("`{word}` is not one of {}", words.join(", "))
        })
    }

    /// Returns the properties of the channel.
    pub const fn spec(self) -> &'static ChannelSpec {
        match self {
            Self::Sms => &ChannelSpec {
                address: AddressSyntax::Phone,
                client: ClientAddress::PhoneNumber,
                // ten segments
                text: TextLimits { template: 1000, filled: 1530, has_segments: true },
                subject: SubjectRule::Forbidden,
                shows_html: false,
                has_unsubscribe_link: false,
                carries_events: false,
                direct: DirectProvider::Configured,
            },
            Self::Email => &ChannelSpec {
                address: AddressSyntax::Email,
                client: ClientAddress::Email,
                text: TextLimits { template: 100_000, filled: 200_000, has_segments: false },
                subject: SubjectRule::Required,
                shows_html: true,
                has_unsubscribe_link: true,
                carries_events: false,
                direct: DirectProvider::Configured,
            },
            Self::Push => &ChannelSpec {
                address: AddressSyntax::Token,
                client: ClientAddress::PushToken,
                // a push notification has at most 4096 bytes in all
                text: TextLimits { template: 1000, filled: 1500, has_segments: false },
                subject: SubjectRule::Optional,
                shows_html: false,
                has_unsubscribe_link: false,
                carries_events: false,
                direct: DirectProvider::Configured,
            },
            Self::Webhook => &ChannelSpec {
                address: AddressSyntax::Url,
                client: ClientAddress::Attribute("webhook_url"),
                text: TextLimits { template: 20_000, filled: 20_000, has_segments: false },
                subject: SubjectRule::Optional,
                shows_html: false,
                has_unsubscribe_link: false,
                carries_events: true,
                direct: DirectProvider::Configured,
            },
            Self::Discord => &ChannelSpec {
                address: AddressSyntax::Url,
                client: ClientAddress::Attribute("discord_url"),
                // Discord's limit
                text: TextLimits { template: 2000, filled: 2000, has_segments: false },
                subject: SubjectRule::Optional,
                shows_html: false,
                has_unsubscribe_link: false,
                carries_events: false,
                direct: DirectProvider::Recipients,
            },
            Self::InApp => &ChannelSpec {
                address: AddressSyntax::UserId,
                client: ClientAddress::Id,
                text: TextLimits { template: 20_000, filled: 20_000, has_segments: false },
                subject: SubjectRule::Optional,
                shows_html: false,
                has_unsubscribe_link: false,
                carries_events: false,
                direct: DirectProvider::Service,
            },
            Self::Request => &ChannelSpec {
                address: AddressSyntax::Url,
                client: ClientAddress::Nothing,
                text: TextLimits { template: 20_000, filled: 20_000, has_segments: false },
                subject: SubjectRule::Optional,
                shows_html: false,
                has_unsubscribe_link: false,
                carries_events: false,
                direct: DirectProvider::Recipients,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channels_to_people_are_those_with_an_address_of_a_client() {
        let has_address = |channel: &ChannelKind| channel.spec().client != ClientAddress::Nothing;
        let to_people: Vec<_> = ChannelKind::ALL.iter().copied().filter(has_address).collect();
        assert_eq!(ChannelKind::TO_PEOPLE, to_people);
    }
}
