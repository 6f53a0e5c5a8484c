//! A suppression, and what it forbids.

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::types::{SuppressionId, Timestamp};
use crate::kinds::{ChannelKind, coded_enum};

/// Characters of a source.
pub const LONGEST_SOURCE: usize = 100;

coded_enum! {
    /// The reason why nothing is sent to an address.
    SuppressionReason {
        /// Its owner opted out, by a link or by a preference.
        Unsubscribed = 0 "unsubscribed",
        /// Its owner called a message spam.
        Complained = 1 "complained",
        /// It does not exist, or takes nothing.
        Bounced = 2 "bounced",
        /// An operator said so.
        Manual = 3 "manual",
        /// It came with a list from another system.
        Imported = 4 "imported",
    }
}

impl SuppressionReason {
    /// Returns whether it forbids transactional messages as well: a receipt is sent to people who want no news, and not to an
    /// address that bounces.
    pub fn forbids_transactional(self) -> bool {
        match self {
            Self::Complained | Self::Bounced | Self::Manual => true,
            Self::Unsubscribed | Self::Imported => false,
        }
    }

    /// Returns whether the owner of the address may lift it by opting in.
    pub fn ends_with_consent(self) -> bool {
        !self.forbids_transactional()
    }
}

/// An address that nothing is sent to, or nothing of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Suppression {
    /// Given by this service: a UUIDv7.
    pub id: SuppressionId,
    /// The channel that the address is one of.
    pub channel: ChannelKind,
    /// The address in its normal form; null when its owner was erased, and only a keyed hash of it is kept.
    #[schema(example = "dora@example.com")]
    pub address: Option<String>,
    /// The group of messages; null for all messages.
    #[schema(example = "newsletter")]
    pub group: Option<String>,
    /// Why.
    pub reason: SuppressionReason,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Where it comes from: `api`, `link`, `preferences`, `import`, or a word of yours.
    #[schema(example = "link")]
    pub source: String,
    /// Words of yours.
    pub note: Option<String>,
}

/// A suppression to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSuppression {
    /// The channel that the address is one of.
    pub channel: ChannelKind,
    /// The address, as it was accepted on the channel.
    pub address: String,
    /// The group; none for all messages.
    pub group: Option<String>,
    /// Why.
    pub reason: SuppressionReason,
    /// Where it comes from.
    pub source: String,
    /// Words about it.
    pub note: Option<String>,
    /// Since when, if it is older than now.
    pub since: Option<Timestamp>,
}

/// A reason against an address, as a message meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// The group; none for all messages.
    pub group: Option<String>,
    /// Why.
    pub reason: SuppressionReason,
}

impl Ban {
    /// Returns why a message of this group is not sent, if that is so.
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
            Self::Manual => "was suppressed by hand",
            Self::Imported => "was imported as suppressed",
        }
    }
}

/// Which suppressions to list; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuppressionFilter {
    /// Only of this channel.
    pub channel: Option<ChannelKind>,
    /// Only for this reason.
    pub reason: Option<SuppressionReason>,
    /// Only of this group; an empty word: only of all messages.
    pub group: Option<String>,
    /// Only of this address on a channel, in its normal form.
    pub address: Option<(ChannelKind, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactional_messages_pass_what_their_recipient_may_lift() {
        for reason in SuppressionReason::ALL {
            let whole = Ban { group: None, reason: *reason };
            let of_group = Ban { group: Some("news".into()), reason: *reason };
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
