//! The body of a new suppression.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::clients::reach;
use crate::error::{Complaints, Error, Result};
use crate::http::json::given;
use crate::kinds::{ChannelKind, ChannelToPeople, description, group};
use crate::suppressions::model::{LONGEST_SOURCE, NewSuppression, SuppressionReason};

/// A new suppression.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"channel": "email", "address": "dora@example.com", "reason": "bounced"}))]
pub struct SuppressionBody {
    /// The channel of the address.
    #[schema(value_type = ChannelToPeople)]
    pub channel: String,
    /// The address, in any spelling.
    #[schema(min_length = 1, max_length = 4096)]
    pub address: String,
    /// The group of messages to suppress; all messages if absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, pattern = "^[a-z0-9_.-]{1,64}$")]
    pub group: Option<String>,
    /// The reason; `manual` if absent. Transactional messages are sent despite `unsubscribed` and `imported`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<SuppressionReason>, nullable = false)]
    pub reason: Option<String>,
    /// The source of the suppression; `api` if absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 100)]
    pub source: Option<String>,
    /// A note of yours.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, max_length = 500)]
    pub note: Option<String>,
}

impl SuppressionBody {
    pub(super) fn into_new(self, defaults: (SuppressionReason, &str)) -> Result<NewSuppression> {
        let mut wrong = Complaints::default();
        let channel = wrong.check("channel", ChannelKind::to_people(&self.channel));
        let address =
            channel.and_then(|channel| wrong.check("address", reach::parse(channel, self.address.trim())));
        let group = self.group.and_then(|word| wrong.check("group", group(&word)));
        let reason = self.reason.and_then(|word| wrong.check("reason", word.parse::<SuppressionReason>()));
        let source = self.source.unwrap_or_else(|| defaults.1.to_owned());
        wrong.check("source", is_source(&source));
        if let Some(note) = &self.note {
            wrong.check("note", description(note));
        }
        wrong.finish()?;
        let missing = || Error::internal("a validated suppression is incomplete");
        Ok(NewSuppression {
            channel: channel.ok_or_else(missing)?,
            address: address.ok_or_else(missing)?,
            group,
            reason: reason.unwrap_or(defaults.0),
            source,
            note: self.note,
            since: None,
        })
    }
}

fn is_source(text: &str) -> std::result::Result<(), &'static str> {
    let is_good = !text.trim().is_empty()
        && !text.chars().any(char::is_control)
        && text.chars().nth(LONGEST_SOURCE).is_none();
    if is_good { Ok(()) } else { Err("must be 1 to 100 characters, no control characters among them") }
}
