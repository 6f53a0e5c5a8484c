//! The closed sets of words that every layer shares: channels, priorities and the states of a message.
//!
//! Each is a small integer in the database (a row of a message is written millions of times) and a word everywhere
//! else.

/// Defines an enum with a number for the database and a word for everything else. The word is a `tt`: a `literal` would
/// reach the derive of the API's document wrapped, and it would show the variant's name instead.
macro_rules! coded_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal $word:tt,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant = $code,)+ }

        impl $name {
            /// Every value, in the order in which they are written.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The number that stands for it in the database.
            pub const fn code(self) -> i16 { self as i16 }

            /// The word that stands for it in the API, in logs and in metrics.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $word,)+ } }

            /// # Errors
            /// An internal error for a number that no version of this program wrote.
            pub fn from_code(code: i16) -> crate::error::Result<Self> {
                match code {
                    $($code => Ok(Self::$variant),)+
                    _ => Err(crate::error::Error::internal(format!(concat!(stringify!($name), " has no code {}"), code))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("`{word}` is not one of {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}
pub(crate) use coded_enum;

coded_enum! {
    /// The way by which a message reaches its recipient.
    ChannelKind {
        /// A text message to a phone.
        Sms = 1 "sms",
        /// A mail to an e-mail address.
        Email = 2 "email",
        /// A notification on a device.
        Push = 3 "push",
        /// A request to a URL of the recipient's.
        Webhook = 4 "webhook",
        /// A message into a Discord channel, by the URL of its webhook.
        Discord = 5 "discord",
        /// A message in a user's inbox.
        InApp = 6 "in_app",
        /// An HTTP request that somebody asked for: nobody is written to over it.
        Request = 7 "request",
    }
}

/// The channels over which people are written to, for the API's document.
pub struct ChannelToPeople;

impl utoipa::PartialSchema for ChannelToPeople {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let words = ChannelKind::TO_PEOPLE.iter().map(|channel| channel.as_str());
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .enum_values(Some(words))
            .description(Some("The way by which a message reaches its recipient."))
            .into()
    }
}

impl utoipa::ToSchema for ChannelToPeople {}

impl ChannelKind {
    /// Those over which people are written to.
    pub const TO_PEOPLE: &[Self] =
        &[Self::Sms, Self::Email, Self::Push, Self::Webhook, Self::Discord, Self::InApp];

    /// The word of a channel over which people are written to.
    ///
    /// # Errors
    /// Says which words there are.
    pub fn to_people(word: &str) -> Result<Self, String> {
        let found = Self::TO_PEOPLE.iter().find(|channel| channel.as_str() == word);
        found.copied().ok_or_else(|| {
            let words: Vec<&str> = Self::TO_PEOPLE.iter().map(|channel| channel.as_str()).collect();
            format!("`{word}` is not one of {}", words.join(", "))
        })
    }

    /// Whether its messages have a part in HTML.
    pub fn shows_html(self) -> bool {
        self == Self::Email
    }
}

/// The pattern of a group's word, for the API's document.
pub const GROUP_PATTERN: &str = "^[a-z0-9_.-]{1,64}$";

/// A group: what of all messages their recipients may opt out of, such as `newsletter`.
///
/// # Errors
/// Says what would be right.
pub fn group(word: &str) -> Result<String, String> {
    let is_known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
    if (1..=64).contains(&word.len()) && word.bytes().all(is_known) {
        Ok(word.to_owned())
    } else {
        Err("must be 1 to 64 of the letters a to z, digits, `_`, `.` and `-`".to_owned())
    }
}

/// Characters of a description at most.
const LONGEST_DESCRIPTION: usize = 500;

/// Whether these can be words for people about something that is kept under a name.
///
/// # Errors
/// Says what would be right.
pub fn description(text: &str) -> Result<(), &'static str> {
    if text.chars().any(char::is_control) || text.chars().nth(LONGEST_DESCRIPTION).is_some() {
        return Err("must be at most 500 characters, no control characters among them");
    }
    Ok(())
}

coded_enum! {
    /// Which lane of a channel a message waits in.
    Priority {
        /// Overtakes everything that is not yet handed to the provider.
        High = 0 "high",
        /// The default.
        Normal = 1 "normal",
        /// Goes when the others leave room, and never starves.
        Low = 2 "low",
    }
}

coded_enum! {
    /// What has become of a message.
    MessageStatus {
        /// Waits for its turn, its time or its next attempt.
        Queued = 0 "queued",
        /// In the hands of a node; never stored, read from the pages.
        Sending = 2 "sending",
        // 1, since nearly all become it: SQLite stores 0 and 1 in no byte
        /// The provider took it.
        Sent = 1 "sent",
        /// It cannot be delivered: refused for good, or every attempt was used.
        Failed = 3 "failed",
        /// Its window closed before it could be delivered.
        Expired = 4 "expired",
        /// Somebody cancelled it before it was sent.
        Cancelled = 5 "cancelled",
    }
}

impl MessageStatus {
    /// Whether nothing more becomes of it.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Sending)
    }

    /// The glossary's word, or the seed API's (`created`, `succeeded`).
    ///
    /// # Errors
    /// Says which words there are.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word {
            "created" => Ok(Self::Queued),
            "succeeded" => Ok(Self::Sent),
            other => other.parse(),
        }
    }
}

coded_enum! {
    /// What has become of a notification.
    NotificationStatus {
        /// Waits for its time.
        Scheduled = 0 "scheduled",
        /// Waits for its turn, or for another attempt.
        Queued = 1 "queued",
        /// In the hands of a node.
        Processing = 2 "processing",
        /// The provider took it.
        Sent = 3 "sent",
        /// It cannot be delivered: refused for good, or every attempt was used.
        Failed = 4 "failed",
        /// Its time was over before it could be delivered.
        Expired = 5 "expired",
        /// Somebody cancelled it before it was sent.
        Cancelled = 6 "cancelled",
    }
}

impl NotificationStatus {
    /// The word of a message's status for it.
    pub fn stored(self) -> MessageStatus {
        match self {
            Self::Scheduled | Self::Queued => MessageStatus::Queued,
            Self::Processing => MessageStatus::Sending,
            Self::Sent => MessageStatus::Sent,
            Self::Failed => MessageStatus::Failed,
            Self::Expired => MessageStatus::Expired,
            Self::Cancelled => MessageStatus::Cancelled,
        }
    }

    /// Whether nothing more becomes of it.
    pub fn is_final(self) -> bool {
        self.stored().is_final()
    }

    /// A status's word, `sending` for `processing` among them.
    ///
    /// # Errors
    /// Says which words there are.
    pub fn parse(word: &str) -> Result<Self, String> {
        if word == MessageStatus::Sending.as_str() { Ok(Self::Processing) } else { word.parse() }
    }
}

impl From<MessageStatus> for NotificationStatus {
    fn from(status: MessageStatus) -> Self {
        match status {
            MessageStatus::Queued => Self::Queued,
            MessageStatus::Sending => Self::Processing,
            MessageStatus::Sent => Self::Sent,
            MessageStatus::Failed => Self::Failed,
            MessageStatus::Expired => Self::Expired,
            MessageStatus::Cancelled => Self::Cancelled,
        }
    }
}

coded_enum! {
    /// Why nothing is sent to an endpoint of webhooks.
    Disabled {
        /// By a user.
        ByHand = 1 "by_hand",
        /// It failed for long.
        Failing = 2 "failing",
        /// It said that it wants no more (410).
        Gone = 3 "gone",
    }
}

coded_enum! {
    /// By which way an event came.
    EventSource {
        /// The API.
        Api = 1 "api",
        /// The broker.
        Broker = 2 "broker",
    }
}

coded_enum! {
    /// The things among which an event's own id is unique.
    EventNamespace {
        /// Events.
        Events = 1 "events",
        /// Actions, which need not have a route.
        Actions = 2 "actions",
    }
}

/// How a channel's provider is, as far as a node that sends to it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderState {
    /// Nothing is wrong.
    Healthy,
    /// It asked for patience.
    Limited,
    /// It fails all the time, and is probed by one message at a time.
    Open,
}

coded_enum! {
    /// What one try at delivering a message came to.
    OutcomeKind {
        /// The provider took it.
        Delivered = 0 "delivered",
        /// It did not work and may work later.
        Retry = 1 "retry",
        /// It did not work and never will.
        Failed = 2 "failed",
        /// The window closed.
        Expired = 3 "expired",
        /// It was cancelled before a try.
        Cancelled = 4 "cancelled",
    }
}

coded_enum! {
    /// The type of a declared attribute.
    AttributeKind {
        /// Any text.
        Text = 0 "text",
        /// A number, also written with a decimal comma and with spaces between thousands.
        Number = 1 "number",
        /// True or false, also written as yes and no, 1 and 0, or in another language.
        Boolean = 2 "boolean",
        /// A day, stored as 2026-12-01.
        Date = 3 "date",
    }
}

coded_enum! {
    /// The state of an import that runs as a job.
    ImportStatus {
        /// Its file is received.
        Queued = 0 "queued",
        /// Rows are being imported.
        Running = 1 "running",
        /// Every row is imported or rejected.
        Done = 2 "done",
        /// It stopped before its end; rows that were imported stay.
        Failed = 3 "failed",
    }
}

coded_enum! {
    /// Why a message or an event is a dead letter.
    ErrorClass {
        /// The client has no address on the channel, or is gone.
        Unreachable = 1 "unreachable",
        /// The text could not be filled for the client.
        Template = 2 "template",
        /// The provider refused it for good.
        Rejected = 3 "rejected",
        /// Nothing can be delivered to the address any more.
        Gone = 4 "gone",
        /// Every attempt was used.
        Exhausted = 5 "exhausted",
        /// An event of the broker's that could not be taken.
        Poison = 6 "poison",
    }
}
