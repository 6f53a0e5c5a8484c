//! Reading messages.

use crate::db::Db;
use crate::db::types::MessageId;
use crate::error::{Error, Result};
use crate::messages::model::{Message, MessageFilter, MessageWithAttempts};
use crate::messages::repo;
use crate::paging::Page;

/// The messages and their attempts.
#[derive(Clone)]
pub struct Messages {
    db: Db,
}

impl Messages {
    /// Creates the service on this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Returns a message with its attempts, also while it is in flight.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: MessageId) -> Result<MessageWithAttempts> {
        let found = self.db.read(move |c| repo::get(c, id)).await?;
        let (message, attempts) = found.ok_or_else(|| Error::not_found("message", id))?;
        Ok(MessageWithAttempts::new(message, attempts))
    }

    /// Returns one page of the matching messages. A page may contain fewer than `limit` messages and have a next page,
    /// because a request reads a bounded number of rows.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a mailing that does not exist, [`Error::Invalid`] for the cursor of another list.
    pub async fn list(
        &self,
        filter: MessageFilter,
        limit: i64,
        cursor: Option<String>,
    ) -> Result<Page<Message>> {
        self.db
            .read(move |c| {
                if let Some(id) = filter.mailing
                    && !repo::mailing_exists(c, id)?
                {
                    return Err(Error::not_found("mailing", id));
                }
                repo::list(c, &filter, limit, cursor.as_deref())
            })
            .await
    }
}
