//! The row of a mailing, and its conversion from and to the model.

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use crate::db::schema::mailing;
use crate::db::types::{ClientId, MailingId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::{ChannelKind, Priority};
use crate::mailings::model::{Audience, Mailing, MailingStatus, MailingVariant};
use crate::messages::model::Counts;

/// A row of `mailing`.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = mailing)]
pub struct MailingRow {
    pub id: MailingId,
    pub text: String,
    pub filter: String,
    pub channel: i16,
    pub priority: i16,
    pub status: i16,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub total: i64,
    pub upper_bound: Option<ClientId>,
    pub walked: bool,
    pub sent: i64,
    pub failed: i64,
    pub expired: i64,
    pub cancelled: i64,
    pub settled: bool,
    pub rate_per_second: Option<f64>,
    pub subject: Option<String>,
    pub html: Option<String>,
    pub message_group: Option<String>,
    pub is_transactional: bool,
    pub template: Option<String>,
    pub variants: Option<String>,
}

/// The JSON of the column `variants`.
#[derive(Serialize, Deserialize)]
struct StoredCopies {
    version: i32,
    variants: Vec<MailingVariant>,
}

/// Serializes the texts that a mailing has from its template, for the column `variants`.
///
/// # Errors
/// If they cannot be serialized.
pub fn copies(of: &Mailing) -> Result<Option<String>> {
    let copies = of.template_version.map(|version| StoredCopies { version, variants: of.variants.clone() });
    copies.map(|copies| serde_json::to_string(&copies)).transpose().map_err(|e| Error::Internal(e.into()))
}

impl MailingRow {
    /// Creates the row of a new mailing: with an audience it has started.
    ///
    /// # Errors
    /// If a value cannot be serialized.
    pub fn new(new: &Mailing, audience: Option<Audience>) -> Result<Self> {
        Ok(Self {
            id: new.id,
            text: new.text.clone(),
            filter: serde_json::to_string(&new.filter).map_err(|e| Error::Internal(e.into()))?,
            channel: new.channel.code(),
            priority: new.priority.code(),
            status: new.status.code(),
            starts_at: new.starts_at,
            ends_at: new.ends_at,
            created_at: new.created_at,
            updated_at: new.updated_at,
            started_at: new.started_at,
            finished_at: None,
            total: audience.map_or(0, |audience| audience.total),
            upper_bound: audience.and_then(|audience| audience.upper_bound),
            walked: audience.is_some_and(|audience| audience.total == 0),
            sent: 0,
            failed: 0,
            expired: 0,
            cancelled: 0,
            settled: false,
            rate_per_second: new.rate_per_second,
            subject: new.subject.clone(),
            html: new.html.clone(),
            message_group: new.group.clone(),
            is_transactional: new.transactional,
            template: new.template.clone(),
            variants: copies(new)?,
        })
    }

    /// Converts it to the model; `sending` is the number of messages in nodes' leases.
    ///
    /// # Errors
    /// An internal error for values that no version of this program stored.
    pub fn into_model(self, sending: i64) -> Result<Mailing> {
        let copied = self.variants.as_deref().map(serde_json::from_str::<StoredCopies>).transpose();
        let copied = copied.map_err(|e| Error::Internal(e.into()))?;
        Ok(Mailing {
            id: self.id,
            text: self.text,
            subject: self.subject,
            html: self.html,
            template: self.template,
            template_version: copied.as_ref().map(|copied| copied.version),
            variants: copied.map(|copied| copied.variants).unwrap_or_default(),
            filter: serde_json::from_str(&self.filter).map_err(|e| Error::Internal(e.into()))?,
            channel: ChannelKind::from_code(self.channel)?,
            priority: Priority::from_code(self.priority)?,
            status: MailingStatus::from_code(self.status)?,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            rate_per_second: self.rate_per_second,
            group: self.message_group,
            transactional: self.is_transactional,
            counts: Counts::balanced(
                self.total,
                sending,
                [self.sent, self.failed, self.expired, self.cancelled],
            ),
        })
    }
}
