//! The rows of events, and their conversion to the model.

use diesel::prelude::*;

use crate::db::bulk::table_row;
use crate::db::schema::{client, event};
use crate::db::types::{ClientId, EventId, Timestamp};
use crate::error::{Error, Result};
use crate::events::model::{AcceptedEvent, Event, SkippedMessage, Source};
use crate::events::plan::Person;
use crate::mailings::recipient::{Profile, Recipient};
use crate::messages::repo::MessageRow;
use crate::notifications::model::Raw;
use crate::notifications::repo::{NotificationRow, RecipientAddresses};

table_row! {
    /// A row of `event`.
    #[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
    #[diesel(table_name = event)]
    #[expect(missing_docs, reason = "the migration documents the columns")]
    pub struct EventRow in event {
        pub id: EventId,
        pub key: Option<String>,
        pub name: String,
        pub user_target: Option<String>,
        pub targets: Option<String>,
        pub payload: String,
        pub occurred_at: Option<Timestamp>,
        pub received_at: Timestamp,
        pub source: i16,
        pub skipped: Option<String>,
        pub fingerprint: Option<Vec<u8>>,
        pub namespace: i16,
    }
    insert pub(super) InsertEvents "ON CONFLICT DO NOTHING" returning id: EventId
}

impl TryFrom<EventRow> for Event {
    type Error = Error;

    fn try_from(row: EventRow) -> Result<Self> {
        let skipped = skipped_of(row.skipped.as_deref())?;
        Ok(Self {
            event_id: row.id,
            id: row.key,
            event: row.name,
            user_target: Raw::stored(row.user_target)?,
            targets: Raw::stored(row.targets)?,
            payload: Raw::read(row.payload)?,
            occurred_at: row.occurred_at,
            received_at: row.received_at,
            source: Source::from_code(row.source)?,
            skipped,
        })
    }
}

/// Parses the stored list of an event's skipped messages.
///
/// # Errors
/// An internal error for JSON that no version of this program stored.
pub fn skipped_of(stored: Option<&str>) -> Result<Vec<SkippedMessage>> {
    let skipped = stored.map(serde_json::from_str).transpose();
    Ok(skipped.map_err(|e| Error::Internal(e.into()))?.unwrap_or_default())
}

/// The rows of one event.
#[derive(Debug, Clone)]
pub struct NewEventRows {
    /// The event.
    pub event: EventRow,
    /// Its messages.
    pub rows: Vec<(MessageRow, NotificationRow)>,
}

impl NewEventRows {
    /// Returns the result of accepting the event, if it is new.
    ///
    /// # Errors
    /// An internal error for rows that this program did not create.
    pub fn accepted(&self) -> Result<AcceptedEvent> {
        let EventRow { id, received_at, skipped, .. } = &self.event;
        let skipped = skipped_of(skipped.as_deref())?;
        Ok(AcceptedEvent { id: *id, received_at: *received_at, skipped, is_known: false })
    }
}

/// The columns of a client that can be a target.
#[derive(Queryable, Selectable)]
#[diesel(table_name = client)]
pub(super) struct PersonRow {
    id: ClientId,
    #[diesel(embed)]
    addresses: RecipientAddresses,
    mobile_operator_code: Option<String>,
    tag: Option<String>,
    more_tags: Option<String>,
    timezone: Option<String>,
    updated_at: Timestamp,
}

impl From<PersonRow> for Person {
    fn from(row: PersonRow) -> Self {
        let profile = Profile {
            mobile_operator_code: row.mobile_operator_code,
            tag: row.tag,
            more_tags: row.more_tags,
            timezone: row.timezone,
            locale: row.addresses.locale.clone(),
            email: row.addresses.email.clone(),
            external_id: row.addresses.external_id.clone(),
            attributes: row.addresses.attributes.clone(),
        };
        let recipient = Recipient {
            client_id: row.id,
            phone_number: row.addresses.phone_number,
            address: None,
            profile: Some(Box::new(profile)),
            updated_at: row.updated_at,
        };
        Self { id: row.id, addresses: row.addresses, recipient }
    }
}
