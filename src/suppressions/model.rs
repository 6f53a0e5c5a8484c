//! A suppression, and the messages that it blocks.

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::types::{SuppressionId, Timestamp};
use crate::kinds::{ChannelKind, coded_enum};

/// The largest number of characters of a source.
pub const LONGEST_SOURCE: usize = 100;

coded_enum! {
    /// The reason for a suppression.
    SuppressionReason {
        /// The owner of the address opted out, by a link or in its preferences.
        Unsubscribed = 0 "unsubscribed",
        /// The owner of the address reported a message as spam.
        Complained = 1 "complained",
        /// The address does not exist or accepts no messages.
        Bounced = 2 "bounced",
        /// An operator suppressed the address.
        Manual = 3 "manual",
        /// The address was imported from another system.
        Imported = 4 "imported",
    }
}

impl SuppressionReason {
    /// Returns true if the reason blocks transactional messages as well. A receipt is sent to a person who
    /// unsubscribed, but not to an address that bounces.
    pub fn forbids_transactional(self) -> bool {
        match self {
            Self::Complained | Self::Bounced | Self::Manual => true,
            Self::Unsubscribed | Self::Imported => false,
        }
    }

    /// Returns true if the owner of the address may lift the suppression by opting in.
    pub fn ends_with_consent(self) -> bool {
        !self.forbids_transactional()
    }
}

/// An address that receives no messages, or none of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Suppression {
    /// The id that this service assigned: a UUIDv7.
    pub id: SuppressionId,
    /// The channel of the address.
    pub channel: ChannelKind,
    /// The normal form of the address. It is null if its owner was erased: then only a keyed hash is stored.
    #[schema(example = "dora@example.com")]
    pub address: Option<String>,
    /// The group of messages; null for all messages.
    #[schema(example = "newsletter")]
    pub group: Option<String>,
    /// The reason.
    pub reason: SuppressionReason,
    /// The time from which the suppression is valid.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// The source of the suppression: `api`, `link`, `preferences`, `import`, or a source of yours.
    #[schema(example = "link")]
    pub source: String,
    /// A note of yours.
    pub note: Option<String>,
}

/// A suppression to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSuppression {
    /// The channel of the address.
    pub channel: ChannelKind,
    /// The address, as the channel accepted it.
    pub address: String,
    /// The group; `None` for all messages.
    pub group: Option<String>,
    /// The reason.
    pub reason: SuppressionReason,
    /// The source of the suppression.
    pub source: String,
    /// A note about it.
    pub note: Option<String>,
    /// The time from which it is valid, if that is in the past.
    pub since: Option<Timestamp>,
}

/// The part of a suppression that decides about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuppressionRule {
    /// The group; `None` for all messages.
    pub group: Option<String>,
    /// The reason.
    pub reason: SuppressionReason,
}

impl SuppressionRule {
    /// Returns the reason to suppress a message of this group, if there is one.
    pub fn against(&self, group: Option<&str>, is_transactional: bool) -> Option<String> {
        if is_transactional && !self.reason.forbids_transactional() {
            return None;
        }
        match &self.group {
            None => Some(format!("suppressed: the address {}", self.reason.done())),
            Some(own) if group == Some(own) => {
                Some(format!("suppressed: the address {} from the group {own}", self.reason.done()))
            }
            Some(_) => None,
        }
    }
}

impl SuppressionReason {
    fn done(self) -> &'static str {
        match self {
            Self::Unsubscribed => "unsubscribed",
            Self::Complained => "complained",
            Self::Bounced => "bounced",
            Self::Manual => "was suppressed manually",
            Self::Imported => "was imported as suppressed",
        }
    }
}

/// A filter of the list of suppressions: every field that is set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuppressionFilter {
    /// The channel.
    pub channel: Option<ChannelKind>,
    /// The reason.
    pub reason: Option<SuppressionReason>,
    /// The group; an empty text selects suppressions of all messages.
    pub group: Option<String>,
    /// The normal form of an address on a channel.
    pub address: Option<(ChannelKind, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactional_messages_pass_what_their_recipient_may_lift() {
        for reason in SuppressionReason::ALL {
            let whole = SuppressionRule { group: None, reason: *reason };
            let of_group = SuppressionRule { group: Some("news".into()), reason: *reason };
            assert!(whole.against(None, false).is_some() && whole.against(Some("news"), false).is_some());
            assert!(of_group.against(Some("news"), false).is_some());
            assert!(
                of_group.against(Some("offers"), false).is_none() && of_group.against(None, false).is_none()
            );
            let is_hard = ["complained", "bounced", "manual"].contains(&reason.as_str());
            assert_eq!(whole.against(None, true).is_some(), is_hard, "{reason}");
        }
    }
}
