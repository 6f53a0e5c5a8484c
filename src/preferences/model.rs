//! Preferences, and the decision that they lead to for a message.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use serde::Serialize;
use utoipa::ToSchema;

use super::quiet::QuietHours;
use crate::db::types::{ClientId, MessageId, Timestamp};
use crate::kinds::ChannelKind;
use crate::suppressions::model::SuppressionRule;

/// The largest number of groups that one client may opt out of.
pub const MOST_GROUPS: usize = 200;

/// The opt-outs and quiet hours of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    /// The channels that the client opted out of.
    pub channels: BTreeSet<ChannelKind>,
    /// The groups that the client opted out of.
    pub groups: BTreeSet<String>,
    /// The quiet hours.
    pub quiet: Option<QuietHours>,
}

impl Preferences {
    /// Applies a change.
    pub fn apply(&mut self, change: &PreferenceChange) {
        for (channel, is_wanted) in change.channels.iter().flatten() {
            if *is_wanted {
                self.channels.remove(channel);
            } else {
                self.channels.insert(*channel);
            }
        }
        for (group, is_wanted) in change.groups.iter().flatten() {
            if *is_wanted {
                self.groups.remove(group);
            } else {
                self.groups.insert(group.clone());
            }
        }
        if let Some(quiet) = change.quiet {
            self.quiet = quiet;
        }
    }
}

/// A change of preferences; values that are not named stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreferenceChange {
    /// Channels to opt in to (`true`) or out of (`false`).
    pub channels: Option<BTreeMap<ChannelKind, bool>>,
    /// Groups to opt in to (`true`) or out of (`false`).
    pub groups: Option<BTreeMap<String, bool>>,
    /// New quiet hours; `Some(None)` removes them.
    pub quiet: Option<Option<QuietHours>>,
}

impl PreferenceChange {
    /// Extends the change to whole lists: every channel or group that a given list does not name is opted in. `known`
    /// has the present opt-outs.
    pub fn of_whole_lists(mut self, known: &Preferences) -> Self {
        if let Some(channels) = &mut self.channels {
            for channel in ChannelKind::TO_PEOPLE {
                channels.entry(*channel).or_insert(true);
            }
        }
        if let Some(groups) = &mut self.groups {
            for group in &known.groups {
                groups.entry(group.clone()).or_insert(true);
            }
        }
        self
    }
}

/// The reason of a message that is suppressed because another client with the same address gets it.
const DUPLICATE: &str = "duplicate address: another client of the mailing has it and gets the message";

/// The preferences of a recipient, and the suppressions of its address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipientPreferences {
    /// The preferences.
    pub preferences: Preferences,
    /// The recipient's time zone; `None` means the service's default.
    pub zone: Option<Tz>,
    /// The suppressions of the address.
    pub bans: Vec<SuppressionRule>,
    /// True if another client of the mailing has the same address and gets the message.
    pub is_duplicate: bool,
}

/// The decision about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Send the message.
    Send,
    /// Suppress the message, for this reason.
    Suppress(String),
    /// Defer the message until the end of the quiet hours.
    Defer(Timestamp),
}

impl RecipientPreferences {
    /// Decides about a message of a group over a channel at `now`.
    pub fn decide(
        &self,
        channel: ChannelKind,
        (group, is_transactional): (Option<&str>, bool),
        (now, default): (Timestamp, Tz),
    ) -> Decision {
        if self.is_duplicate {
            return Decision::Suppress(DUPLICATE.to_owned());
        }
        let wants = &self.preferences;
        if !is_transactional && wants.channels.contains(&channel) {
            return Decision::Suppress(format!("the client opted out of {channel}"));
        }
        if let Some(group) = group.filter(|group| !is_transactional && wants.groups.contains(*group)) {
            return Decision::Suppress(format!("the client opted out of the group {group}"));
        }
        if let Some(why) = self.bans.iter().find_map(|ban| ban.against(group, is_transactional)) {
            return Decision::Suppress(why);
        }
        if is_transactional {
            return Decision::Send;
        }
        let end = wants.quiet.and_then(|quiet| quiet.end(now, self.zone.unwrap_or(default)));
        end.map_or(Decision::Send, Decision::Defer)
    }
}

/// A client's preferences in the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ClientPreferences {
    /// The id of the client.
    pub client_id: ClientId,
    /// The channels: `false` if the client opted out of it.
    #[schema(example = json!({
        "sms": true, "email": false, "push": true, "webhook": true, "discord": true, "in_app": true
    }))]
    pub channels: BTreeMap<ChannelKind, bool>,
    /// The groups that the client opted out of, each `false`. The client is opted in to all others.
    #[schema(example = json!({"newsletter": false}))]
    pub groups: BTreeMap<String, bool>,
    /// The quiet hours; null for none.
    pub quiet_hours: Option<ShownQuietHours>,
    /// The time of the last change; null if there was none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated_at: Option<Timestamp>,
}

/// Quiet hours in the client's time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ClientQuietHours)]
pub struct ShownQuietHours {
    /// The first minute of the quiet hours.
    #[schema(example = "22:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub from: String,
    /// The first minute after the quiet hours, on the next day if it is earlier than `from`.
    #[schema(example = "08:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub until: String,
}

impl ClientPreferences {
    /// Creates the view of a client from its stored preferences with their time, and the suppressions of its addresses.
    pub fn of(
        client_id: ClientId,
        stored: Option<(Preferences, Timestamp)>,
        bans: &[(ChannelKind, SuppressionRule)],
    ) -> Self {
        let updated_at = stored.as_ref().map(|(_, at)| *at);
        let mut wants = stored.map(|(preferences, _)| preferences).unwrap_or_default();
        wants.add(bans);
        let quiet = |quiet: QuietHours| ShownQuietHours {
            from: quiet.from().to_string(),
            until: quiet.until().to_string(),
        };
        Self {
            client_id,
            channels: ChannelKind::TO_PEOPLE.iter().map(|c| (*c, !wants.channels.contains(c))).collect(),
            groups: wants.groups.into_iter().map(|group| (group, false)).collect(),
            quiet_hours: wants.quiet.map(quiet),
            updated_at,
        }
    }
}

impl Preferences {
    /// Adds the suppressions of the client's addresses.
    pub fn add(&mut self, bans: &[(ChannelKind, SuppressionRule)]) {
        for (channel, ban) in bans {
            match &ban.group {
                None => drop(self.channels.insert(*channel)),
                Some(group) => drop(self.groups.insert(group.clone())),
            }
        }
    }
}

/// The subject of an unsubscribe link: the address, and the messages to opt out of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubscribeSubject {
    /// The address.
    pub who: OptOutAddress,
    /// The channel of the address.
    pub channel: ChannelKind,
    /// The group; `None` for all messages over the channel.
    pub group: Option<String>,
}

/// The address that a link opts out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptOutAddress {
    /// This address.
    Address(String),
    /// The address of this client, in a link of an earlier version.
    Client(ClientId),
    /// The address of this message's recipient, in a link of an earlier version.
    RecipientOf(MessageId),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suppressions::model::SuppressionReason;

    #[test]
    fn a_message_is_stopped_by_its_channel_then_its_group_then_the_hour() {
        let night = QuietHours::new("22:00".parse().unwrap(), "08:00".parse().unwrap());
        let mut preferences = RecipientPreferences::default();
        let three = Timestamp::from_micros(3 * 3_600_000_000);
        let decision = |preferences: &RecipientPreferences, group| {
            preferences.decide(ChannelKind::Email, (group, false), (three, Tz::UTC))
        };
        assert_eq!(decision(&preferences, Some("news")), Decision::Send);
        preferences.preferences.quiet = night;
        assert_eq!(decision(&preferences, None), Decision::Defer(Timestamp::from_micros(8 * 3_600_000_000)));
        preferences.zone = Some(chrono_tz::Asia::Tokyo);
        assert_eq!(decision(&preferences, None), Decision::Send, "noon in Tokyo");
        preferences.zone = None;
        preferences.preferences.groups.insert("news".into());
        let out = |what: &str| Decision::Suppress(format!("the client opted out of {what}"));
        assert_eq!(decision(&preferences, Some("news")), out("the group news"));
        assert!(matches!(decision(&preferences, Some("newsletter")), Decision::Defer(_)));
        preferences.preferences.channels.insert(ChannelKind::Email);
        assert_eq!(decision(&preferences, Some("news")), out("email"));
        assert!(matches!(
            preferences.decide(ChannelKind::Sms, (None, false), (three, Tz::UTC)),
            Decision::Defer(_)
        ));
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let mut wants = Preferences::default();
        let change = |channel, group: &str, is_wanted| PreferenceChange {
            channels: Some(BTreeMap::from([(channel, is_wanted)])),
            groups: Some(BTreeMap::from([(group.to_owned(), is_wanted)])),
            quiet: None,
        };
        wants.apply(&change(ChannelKind::Sms, "a", false));
        wants.apply(&change(ChannelKind::Push, "b", false));
        wants.apply(&change(ChannelKind::Sms, "b", true));
        assert_eq!(wants.channels, BTreeSet::from([ChannelKind::Push]));
        assert_eq!(wants.groups, BTreeSet::from(["a".to_owned()]));
    }

    #[test]
    fn a_list_that_is_given_whole_wants_what_it_does_not_name() {
        let known = Preferences {
            channels: BTreeSet::from([ChannelKind::Sms]),
            groups: BTreeSet::from(["a".to_owned(), "b".to_owned()]),
            quiet: None,
        };
        let whole = |change: PreferenceChange| {
            let mut wants = known.clone();
            wants.apply(&change.of_whole_lists(&known));
            wants
        };
        assert_eq!(whole(PreferenceChange { quiet: Some(None), ..PreferenceChange::default() }), known);
        let groups = Some(BTreeMap::from([("b".to_owned(), false)]));
        let wants = whole(PreferenceChange { groups, ..PreferenceChange::default() });
        assert_eq!(wants, Preferences { groups: BTreeSet::from(["b".to_owned()]), ..known.clone() });
    }

    #[test]
    fn what_stands_against_an_address_holds_before_everything_else() {
        let ban = |reason| SuppressionRule { group: None, reason };
        let decision = |preferences: &RecipientPreferences, is_transactional| {
            let now = Timestamp::from_micros(0);
            preferences.decide(ChannelKind::Email, (None, is_transactional), (now, Tz::UTC))
        };
        let mut preferences = RecipientPreferences {
            bans: vec![ban(SuppressionReason::Unsubscribed)],
            ..RecipientPreferences::default()
        };
        assert!(matches!(decision(&preferences, false), Decision::Suppress(_)));
        assert_eq!(decision(&preferences, true), Decision::Send);
        preferences.bans.push(ban(SuppressionReason::Bounced));
        assert!(matches!(decision(&preferences, true), Decision::Suppress(_)));
        let twin = RecipientPreferences { is_duplicate: true, ..RecipientPreferences::default() };
        assert!(
            matches!(decision(&twin, true), Decision::Suppress(why) if why.starts_with("duplicate address"))
        );
    }
}
