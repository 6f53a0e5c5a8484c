//! The use cases of a person: export and erasure.

use std::sync::Arc;
use std::time::Duration;

use super::model::{Erased, ErasedClient, ExportedInboxMessage, ExportedMessage, MessageRef};
use super::repo;
use crate::clients::Clients;
use crate::clients::model::Client;
use crate::clock::Clock;
use crate::db::types::{ClientId, EventId, MessageId};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::events::model::Event;
use crate::kinds::ChannelKind;
use crate::lifecycle::{Shutdown, run_periodically};
use crate::messages::Messages;
use crate::notifications::Notifications;
use crate::preferences::model::ClientPreferences;
use crate::preferences::{self, PreferenceService};
use crate::runtime::Runtime;
use crate::suppressions::Suppressions;
use crate::suppressions::model::{Suppression, SuppressionFilter};

/// The interval of the sweep for records of erased clients that were written afterwards.
const SWEEP: Duration = Duration::from_secs(60);
/// The longest time for which a node may have had a client's message in memory.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest number of exported suppressions of one address.
const MOST_SUPPRESSIONS: i64 = 1000;

/// The people of one database.
pub struct People {
    db: Db,
    clock: Clock,
    clients: Clients,
    messages: Messages,
    notifications: Arc<Notifications>,
    events: Arc<Events>,
    preferring: Arc<PreferenceService>,
    suppressions: Arc<Suppressions>,
}

/// A person's data. Of messages and events it has only the ids, because there may be many.
pub struct PersonData {
    /// The client.
    pub client: Client,
    /// The client's preferences.
    pub preferences: ClientPreferences,
    /// The suppressions of its addresses.
    pub suppressions: Vec<Suppression>,
    /// Its messages.
    pub messages: Vec<MessageRef>,
    /// The events that caused them.
    pub events: Vec<EventId>,
    /// Its inbox.
    pub inbox: Vec<ExportedInboxMessage>,
}

impl People {
    /// Creates the use cases over a database and the use cases of other domains.
    pub fn new(
        Runtime { db, clock, .. }: Runtime,
        (clients, messages): (Clients, Messages),
        (notifications, events): (Arc<Notifications>, Arc<Events>),
        (preferring, suppressions): (Arc<PreferenceService>, Arc<Suppressions>),
    ) -> Self {
        Self { db, clock, clients, messages, notifications, events, preferring, suppressions }
    }

    /// Returns the data of a client.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn known(&self, id: ClientId) -> Result<PersonData> {
        let client = self.clients.get(id).await?;
        let preferences = self.preferring.get(id).await?;
        let read = move |c: &mut AnyConnection| {
            let addresses = preferences::repo::addresses_of(c, id)?;
            let messages = repo::messages(c, id, &addresses)?;
            let ids: Vec<MessageId> = messages.iter().map(|sent| sent.id).collect();
            let events = repo::events(c, &ids)?.into_iter().collect();
            let mut inbox = Vec::new();
            for (_, user) in addresses.iter().filter(|(channel, _)| *channel == ChannelKind::InApp) {
                inbox.extend(repo::inbox_of(c, user)?);
            }
            Ok((addresses, messages, events, inbox))
        };
        let (addresses, messages, events, inbox) = self.db.read(read).await?;
        let mut suppressions: Vec<Suppression> = Vec::new();
        for address in addresses {
            let filter = SuppressionFilter { address: Some(address), ..SuppressionFilter::default() };
            suppressions.extend(self.suppressions.list(filter, None, MOST_SUPPRESSIONS).await?.0);
        }
        Ok(PersonData { client, preferences, suppressions, messages, events, inbox })
    }

    /// Returns a message with its attempts; `None` if it has been deleted.
    ///
    /// # Errors
    /// Database errors.
    pub async fn message(&self, sent: MessageRef) -> Result<Option<ExportedMessage>> {
        let found = if sent.is_of_mailing {
            self.messages.get(sent.id).await.map(|one| ExportedMessage::Message(Box::new(one)))
        } else {
            self.notifications.get(sent.id).await.map(|one| ExportedMessage::Notification(Box::new(one)))
        };
        unless_gone(found)
    }

    /// Returns an event; `None` if it has been deleted.
    ///
    /// # Errors
    /// Database errors.
    pub async fn event(&self, id: EventId) -> Result<Option<Event>> {
        unless_gone(self.events.get(id.to_string()).await.map(|found| found.event))
    }

    /// Cancels the queued messages of a client, and erases the person's data: its addresses and the texts of its
    /// messages. The counts stay, and suppressions of its addresses stay as hashes.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn erase(&self, id: ClientId) -> Result<ErasedClient> {
        let waiting = move |c: &mut AnyConnection| {
            let addresses = preferences::repo::addresses_of(c, id)?;
            let all = repo::messages(c, id, &addresses)?;
            Ok(all.into_iter().filter(|sent| !sent.is_final && !sent.is_of_mailing).collect::<Vec<_>>())
        };
        for sent in self.db.read(waiting).await? {
            match self.notifications.cancel(sent.id).await {
                // the message has ended, or an attempt is in flight
                Ok(()) | Err(Error::Conflict(_) | Error::NotFound { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        let now = self.clock.now();
        let erased: Option<Erased> = self.db.write(move |c| repo::erase(c, id, now)).await?;
        let erased = erased.ok_or_else(|| Error::not_found("client", id))?;
        Ok(ErasedClient { client_id: id, erased })
    }
}

fn unless_gone<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Erases, until the shutdown, records of erased clients that nodes still write from memory.
pub async fn sweep(db: Db, clock: Clock, shutdown: Shutdown) {
    run_periodically(shutdown, SWEEP, || async {
        let until = clock.now().minus(REMEMBERED);
        if let Err(error) = db.write(move |c| repo::erase_again(c, until)).await {
            tracing::warn!(%error, "sweep of erased clients failed; will retry");
        }
        false
    })
    .await;
}
