//! What a client wants.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use serde::Serialize;
use utoipa::ToSchema;

use super::quiet::QuietHours;
use crate::db::types::{ClientId, MessageId, Timestamp};
use crate::kinds::ChannelKind;
use crate::suppressions::model::Ban;

/// The most groups that one client opts out of.
pub const MOST_GROUPS: usize = 200;

/// What a client does not want, and when it is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    /// Channels that it opted out of.
    pub channels: BTreeSet<ChannelKind>,
    /// Groups that it opted out of.
    pub groups: BTreeSet<String>,
    /// When it is left alone.
    pub quiet: Option<QuietHours>,
}

impl Preferences {
    /// Takes a change.
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

/// What is to be different; what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreferenceChange {
    /// Channels that are wanted, or not.
    pub channels: Option<BTreeMap<ChannelKind, bool>>,
    /// Groups likewise.
    pub groups: Option<BTreeMap<String, bool>>,
    /// Other quiet hours, or none.
    pub quiet: Option<Option<QuietHours>>,
}

impl PreferenceChange {
    /// The same change of whole lists: in a list that is given, what is not named is wanted. `known` is what was not wanted
    /// until now.
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

/// Recorded with the messages of clients who share an address with one who has the message.
const DUPLICATE: &str = "duplicate address: another client of the mailing has it, and gets the message";

/// What is known of a recipient's wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// What it wants.
    pub preferences: Preferences,
    /// By which clock; the service's default if it has none.
    pub zone: Option<Tz>,
    /// The bans on the address.
    pub bans: Vec<Ban>,
    /// Another client of the mailing has the same address, and gets the message.
    pub is_duplicate: bool,
}

/// What a recipient's wishes mean for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is against it.
    Wanted,
    /// It is not wanted, and why.
    OptedOut(String),
    /// It is to wait until then.
    Quiet(Timestamp),
}

impl Wishes {
    /// The fate of a message of this group, and of this kind, over this channel at `now`.
    pub fn fate(
        &self,
        channel: ChannelKind,
        (group, is_transactional): (Option<&str>, bool),
        (now, default): (Timestamp, Tz),
    ) -> Fate {
        if self.is_duplicate {
            return Fate::OptedOut(DUPLICATE.to_owned());
        }
        let wants = &self.preferences;
        if !is_transactional && wants.channels.contains(&channel) {
            return Fate::OptedOut(format!("the client opted out of {channel}"));
        }
        if let Some(group) = group.filter(|group| !is_transactional && wants.groups.contains(*group)) {
            return Fate::OptedOut(format!("the client opted out of the group {group}"));
        }
        if let Some(why) = self.bans.iter().find_map(|ban| ban.against(group, is_transactional)) {
            return Fate::OptedOut(why);
        }
        if is_transactional {
            return Fate::Wanted;
        }
        let end = wants.quiet.and_then(|quiet| quiet.end(now, self.zone.unwrap_or(default)));
        end.map_or(Fate::Wanted, Fate::Quiet)
    }
}

/// A client's preferences as they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ClientPreferences {
    /// Whose.
    pub client_id: ClientId,
    /// Whether the client wants messages over each channel.
    #[schema(example = json!({
        "sms": true, "email": false, "push": true, "webhook": true, "discord": true, "in_app": true
    }))]
    pub channels: BTreeMap<ChannelKind, bool>,
    /// The groups that the client opted out of, each `false`; every other is wanted.
    #[schema(example = json!({"newsletter": false}))]
    pub groups: BTreeMap<String, bool>,
    /// When the client is left alone; null for never.
    pub quiet_hours: Option<ShownQuietHours>,
    /// When they were changed last; null for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated_at: Option<Timestamp>,
}

/// Hours of the day by the client's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ClientQuietHours)]
pub struct ShownQuietHours {
    /// Their first minute.
    #[schema(example = "22:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub from: String,
    /// The first minute after them, of the next day if it is the earlier one.
    #[schema(example = "08:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub until: String,
}

impl ClientPreferences {
    /// The view of a client who said this at that time, or nothing ever, with the bans on its addresses.
    pub fn of(
        client_id: ClientId,
        stored: Option<(Preferences, Timestamp)>,
        bans: &[(ChannelKind, Ban)],
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
    /// Adds what stands against the addresses of the client.
    pub fn add(&mut self, bans: &[(ChannelKind, Ban)]) {
        for (channel, ban) in bans {
            match &ban.group {
                None => drop(self.channels.insert(*channel)),
                Some(group) => drop(self.groups.insert(group.clone())),
            }
        }
    }
}

/// What a link in a mail opts out of, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// For whom.
    pub who: Who,
    /// Of this channel, when there is no group.
    pub channel: ChannelKind,
    /// Of this group.
    pub group: Option<String>,
}

/// Who opts out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The owner of this address.
    Address(String),
    /// The owner of this client's address, by a link of an earlier version.
    Client(ClientId),
    /// The owner of the address that this message went to, likewise.
    RecipientOf(MessageId),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suppressions::model::SuppressionReason;

    #[test]
    fn a_message_is_stopped_by_its_channel_then_its_group_then_the_hour() {
        let night = QuietHours::new("22:00".parse().unwrap(), "08:00".parse().unwrap());
        let mut wishes = Wishes::default();
        let three = Timestamp::from_micros(3 * 3_600_000_000);
        let fate = |wishes: &Wishes, group| wishes.fate(ChannelKind::Email, (group, false), (three, Tz::UTC));
        assert_eq!(fate(&wishes, Some("news")), Fate::Wanted);
        wishes.preferences.quiet = night;
        assert_eq!(fate(&wishes, None), Fate::Quiet(Timestamp::from_micros(8 * 3_600_000_000)));
        wishes.zone = Some(chrono_tz::Asia::Tokyo);
        assert_eq!(fate(&wishes, None), Fate::Wanted, "noon in Tokyo");
        wishes.zone = None;
        wishes.preferences.groups.insert("news".into());
        let out = |what: &str| Fate::OptedOut(format!("the client opted out of {what}"));
        assert_eq!(fate(&wishes, Some("news")), out("the group news"));
        assert!(matches!(fate(&wishes, Some("newsletter")), Fate::Quiet(_)));
        wishes.preferences.channels.insert(ChannelKind::Email);
        assert_eq!(fate(&wishes, Some("news")), out("email"));
        assert!(matches!(wishes.fate(ChannelKind::Sms, (None, false), (three, Tz::UTC)), Fate::Quiet(_)));
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
        let ban = |reason| Ban { group: None, reason };
        let fate = |wishes: &Wishes, is_transactional| {
            let now = Timestamp::from_micros(0);
            wishes.fate(ChannelKind::Email, (None, is_transactional), (now, Tz::UTC))
        };
        let mut wishes = Wishes { bans: vec![ban(SuppressionReason::Unsubscribed)], ..Wishes::default() };
        assert!(matches!(fate(&wishes, false), Fate::OptedOut(_)));
        assert_eq!(fate(&wishes, true), Fate::Wanted);
        wishes.bans.push(ban(SuppressionReason::Bounced));
        assert!(matches!(fate(&wishes, true), Fate::OptedOut(_)));
        let twin = Wishes { is_duplicate: true, ..Wishes::default() };
        assert!(matches!(fate(&twin, true), Fate::OptedOut(why) if why.starts_with("duplicate address")));
    }
}
