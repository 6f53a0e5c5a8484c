//! The enumerations that every layer shares: channels, priorities and the states of a message.
//!
//! Each value is a small integer in the database, where millions of message rows contain it, and a word everywhere
//! else.

/// Defines an enum with a number for the database and a word for everything else. The word is a `tt`: a `literal` would
/// reach the derive of the OpenAPI schema wrapped, and the schema would show the variant's name instead.
macro_rules! coded_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal $word:tt,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant = $code,)+ }

        impl $name {
            /// All values, in the order of their definition.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The number in the database.
            pub const fn code(self) -> i16 { self as i16 }

            /// The word in the API, in logs and in metrics.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $word,)+ } }

            /// # Errors
            /// [`Internal`](crate::error::Error::Internal) for a number that no version of this program wrote.
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

// below the macro, which it uses
mod channel;

pub use channel::{
    AddressSyntax, ChannelKind, ChannelSpec, ChannelToPeople, ClientAddress, DirectProvider, SubjectRule,
    TextLimits,
};

/// The pattern of a group's name, for the OpenAPI document.
pub const GROUP_PATTERN: &str = "^[a-z0-9_.-]{1,64}$";

/// Validates the name of a group: a category of messages that recipients may opt out of, such as `newsletter`.
///
/// # Errors
/// The rule for names.
pub fn group(word: &str) -> Result<String, String> {
    let is_known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
    if (1..=64).contains(&word.len()) && word.bytes().all(is_known) {
        Ok(word.to_owned())
    } else {
        Err("must be 1 to 64 characters: letters a to z, digits, `_`, `.` and `-`".to_owned())
    }
}

/// The most characters of a description.
const LONGEST_DESCRIPTION: usize = 500;

/// Validates the description of a named object.
///
/// # Errors
/// The rule for descriptions.
pub fn description(text: &str) -> Result<(), &'static str> {
    if text.chars().any(char::is_control) || text.chars().nth(LONGEST_DESCRIPTION).is_some() {
        return Err("must be at most 500 characters without control characters");
    }
    Ok(())
}

coded_enum! {
    /// The priority of a message: the lane of its channel in which it waits.
    Priority {
        /// Overtakes every message that is not yet with the provider.
        High = 0 "high",
        /// The default.
        Normal = 1 "normal",
        /// Uses the capacity that the others leave, and never starves.
        Low = 2 "low",
    }
}

coded_enum! {
    /// The status of a message.
    MessageStatus {
        /// Waits for its turn, its time or its next attempt.
        Queued = 0 "queued",
        /// In progress on a node; never stored, derived from the leases.
        Sending = 2 "sending",
        // 1, since nearly every message ends so: SQLite stores 0 and 1 without a byte
        /// The provider accepted it.
        Sent = 1 "sent",
        /// It cannot be delivered: it was refused for good, or no attempts are left.
        Failed = 3 "failed",
        /// Its window closed before it could be delivered.
        Expired = 4 "expired",
        /// It was cancelled before it was sent.
        Cancelled = 5 "cancelled",
    }
}

impl MessageStatus {
    /// Returns true if the status never changes again.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Sending)
    }

    /// Parses a status by the glossary's word, or by the word of the original API (`created`, `succeeded`).
    ///
    /// # Errors
    /// The list of valid words.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word {
            "created" => Ok(Self::Queued),
            "succeeded" => Ok(Self::Sent),
            other => other.parse(),
        }
    }
}

coded_enum! {
    /// The status of a notification.
    NotificationStatus {
        /// Waits for its time.
        Scheduled = 0 "scheduled",
        /// Waits for its turn, or for its next attempt.
        Queued = 1 "queued",
        /// In progress on a node.
        Processing = 2 "processing",
        /// The provider accepted it.
        Sent = 3 "sent",
        /// It cannot be delivered: it was refused for good, or no attempts are left.
        Failed = 4 "failed",
        /// It expired before it could be delivered.
        Expired = 5 "expired",
        /// It was cancelled before it was sent.
        Cancelled = 6 "cancelled",
    }
}

impl NotificationStatus {
    /// The status of the message behind it.
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

    /// Returns true if the status never changes again.
    pub fn is_final(self) -> bool {
        self.stored().is_final()
    }

    /// Parses a status by its word; accepts `sending` for `processing` too.
    ///
    /// # Errors
    /// The list of valid words.
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
    /// The reason why a webhook endpoint is disabled.
    Disabled {
        /// A user disabled it.
        ByHand = 1 "by_hand",
        /// It failed for too long.
        Failing = 2 "failing",
        /// It returned 410 Gone.
        Gone = 3 "gone",
    }
}

coded_enum! {
    /// The source of an event.
    EventSource {
        /// The API.
        Api = 1 "api",
        /// The broker.
        Broker = 2 "broker",
    }
}

coded_enum! {
    /// The namespace in which an event's own id is unique.
    EventNamespace {
        /// Events.
        Events = 1 "events",
        /// Actions, which need not have a route.
        Actions = 2 "actions",
    }
}

/// The state of a channel's provider, as a node that sends to it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderState {
    /// The provider accepts messages.
    Healthy,
    /// The provider asked to slow down.
    Limited,
    /// The circuit breaker is open: every attempt fails, and one message at a time probes the provider.
    Open,
}

coded_enum! {
    /// The outcome of one attempt to deliver a message.
    OutcomeKind {
        /// The provider accepted it.
        Delivered = 0 "delivered",
        /// It failed, and a later attempt may succeed.
        Retry = 1 "retry",
        /// It failed permanently.
        Failed = 2 "failed",
        /// The window closed.
        Expired = 3 "expired",
        /// It was cancelled before the attempt.
        Cancelled = 4 "cancelled",
    }
}

coded_enum! {
    /// The type of a declared attribute.
    AttributeKind {
        /// Any text.
        Text = 0 "text",
        /// A number; a decimal comma and spaces between thousands are accepted too.
        Number = 1 "number",
        /// True or false; yes and no, 1 and 0, and the words of other languages are accepted too.
        Boolean = 2 "boolean",
        /// A day, stored as 2026-12-01.
        Date = 3 "date",
    }
}

coded_enum! {
    /// The state of an import that runs as a job.
    ImportStatus {
        /// The file was received.
        Queued = 0 "queued",
        /// Rows are being imported.
        Running = 1 "running",
        /// Every row was imported or rejected.
        Done = 2 "done",
        /// It stopped early; the imported rows remain.
        Failed = 3 "failed",
    }
}

coded_enum! {
    /// The reason why a message or an event is a dead letter.
    ErrorClass {
        /// The client has no address on the channel, or was deleted.
        Unreachable = 1 "unreachable",
        /// The text could not be rendered for the client.
        Template = 2 "template",
        /// The provider refused it for good.
        Rejected = 3 "rejected",
        /// The address is dead: nothing can be delivered to it any more.
        Gone = 4 "gone",
        /// No attempts are left.
        Exhausted = 5 "exhausted",
        /// An event of the broker that could not be accepted.
        Poison = 6 "poison",
    }
}
