//! What can be done with endpoints.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::book::Book;
use super::model::WebhookEndpoint;
use super::repo;
use crate::channels::webhook::Secret;
use crate::clock::Clock;
use crate::credentials::Vault;
use crate::db::types::{EndpointId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::egress::guard::{Guard, Plain};
use crate::error::{Complaints, Error, Result};
use crate::idempotency::{self, Answer, Claim, Made, Mode};
use crate::kinds::Disabled;
use crate::kinds::description;
use crate::paging;

/// The endpoints of one database; cloning it is cheap.
#[derive(Clone)]
pub struct Endpoints {
    db: Db,
    clock: Clock,
    guard: Arc<Guard>,
    book: Arc<Book>,
    /// Encrypts answers with secrets, for the time of their keys.
    vault: Arc<Vault>,
}

/// What somebody says of an endpoint. What is absent stays.
#[derive(Debug, Default)]
pub struct Changes {
    /// Where it is.
    pub url: Option<String>,
    /// Words for people; none at all.
    pub description: Option<Option<String>>,
    /// `whsec_…`, to sign with.
    pub secret: Option<String>,
}

/// Makes the answer that shows an endpoint with its secret.
pub type Answering = fn(&WebhookEndpoint, &Secret) -> Result<Answer>;

/// An endpoint and its secret.
pub type Shown = (WebhookEndpoint, Secret);

/// The associated data of encrypted answers.
const SEALED: &str = "an answer with the secret of a webhook endpoint";

/// [`Changes`] that passed.
struct Checked {
    url: Option<String>,
    description: Option<Option<String>>,
    secret: Option<Secret>,
}

impl Endpoints {
    /// Over this database. The book is that of this node's webhook channel, so that what is changed here holds there at
    /// once; other nodes read it within seconds.
    pub fn new(db: Db, clock: Clock, guard: Arc<Guard>, (book, vault): (Arc<Book>, Arc<Vault>)) -> Self {
        Self { db, clock, guard, book, vault }
    }

    /// Registers an endpoint, with this secret or a new one, which is answered once. `answer` says what the request is
    /// answered, and another one under the same key.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Conflict`] when the URL is registered.
    pub async fn create(&self, new: Changes, mode: Mode, answer: Answering) -> Result<Made<Shown>> {
        let Checked { url, description, secret } = self.check(new)?;
        let url = url.ok_or_else(|| Error::invalid("url", "is missing"))?;
        let secret = secret.map_or_else(Secret::generate, Ok)?;
        let (now, settings) = (self.clock.now(), self.book.settings().clone());
        let at = url.clone();
        let store = move |c: &mut AnyConnection| {
            let known = repo::find_by_url_for_update(c, &at)?;
            if known.as_ref().is_some_and(|known| known.is_registered) {
                return Err(Error::Conflict("another endpoint has this url".into()));
            }
            let is_new = known.is_none();
            let mut endpoint = known.unwrap_or_else(|| WebhookEndpoint::new(at, now));
            endpoint.is_registered = true;
            // whatever it did before anybody registered it
            endpoint.enable();
            endpoint.description = description.flatten();
            endpoint.updated_at = now;
            endpoint.rotate(secret.clone(), now, &settings);
            if is_new {
                repo::insert(c, &endpoint)?
            } else {
                repo::update(c, &endpoint)?
            }
            let shown = answer(&endpoint, &secret)?;
            Ok(((endpoint, secret), shown))
        };
        let made = self.answered(mode, now, store).await?;
        self.book.forget(&url);
        Ok(made)
    }

    /// Does `work`, whose answer has a secret, once under its key.
    async fn answered(
        &self,
        mode: Mode,
        now: Timestamp,
        work: impl FnOnce(&mut AnyConnection) -> Result<(Shown, Answer)> + Send + 'static,
    ) -> Result<Made<Shown>> {
        let key = match mode {
            Mode::Commit(key) => key,
            Mode::DryRun => {
                let (shown, answer) = self.db.rehearse(work).await?;
                return Ok(Made::New(shown, answer.of_dry_run()));
            }
        };
        let (claim, vault) = (Claim::before_answer(key, uuid::Uuid::now_v7()), Arc::clone(&self.vault));
        let seal = move |answer: &Answer| {
            let body = serde_json::to_string(&vault.seal(&answer.body, SEALED)?);
            Ok(Answer { body: body.map_err(|e| Error::Internal(e.into()))?, ..answer.clone() })
        };
        let once =
            move |c: &mut AnyConnection| idempotency::once_answered(c, claim.as_ref(), now, work, seal);
        match self.db.write(once).await? {
            Made::Before(sealed) => self.opened(sealed).map(Made::Before),
            new => Ok(new),
        }
    }

    fn opened(&self, answer: Answer) -> Result<Answer> {
        let sealed: String = serde_json::from_str(&answer.body).map_err(|e| Error::Internal(e.into()))?;
        let body = self.vault.open(&sealed, SEALED).map_err(|_| {
            Error::Conflict(
                "the request was done before, and its answer cannot be decrypted since the keys were changed"
                    .into(),
            )
        })?;
        Ok(Answer { body: body.expose_secret().to_owned(), ..answer })
    }

    /// The endpoint with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: EndpointId) -> Result<WebhookEndpoint> {
        self.db.read(move |c| repo::find(c, id)).await?.ok_or_else(|| not_found(id))
    }

    /// The endpoints after `cursor`, in the order of their making.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        cursor: Option<EndpointId>,
        limit: i64,
    ) -> Result<(Vec<WebhookEndpoint>, Option<EndpointId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&EndpointId>, count| repo::list(c, after.copied(), count);
            paging::page_of(limit, cursor, part, |endpoint| endpoint.id)
        };
        self.db.read(read).await
    }

    /// Changes what is named. A new secret is joined by the old one for the time of the overlap.
    ///
    /// # Errors
    /// [`Error::NotFound`], and those of [`Endpoints::create`].
    pub async fn patch(&self, id: EndpointId, changes: Changes) -> Result<WebhookEndpoint> {
        let Checked { url, description, secret } = self.check(changes)?;
        let settings = self.book.settings().clone();
        self.change(id, move |endpoint, now| {
            if let Some(url) = url
                && url != endpoint.url
            {
                endpoint.url = url;
                // another server, which has not failed
                endpoint.recover();
            }
            if let Some(description) = description {
                endpoint.description = description;
            }
            if let Some(secret) = secret {
                endpoint.rotate(secret, now, &settings);
            }
            endpoint.is_registered = true;
        })
        .await
    }

    /// Gives it a new secret, which is answered once; the old one signs as well for the time of the overlap.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn rotate_secret(&self, id: EndpointId, mode: Mode, answer: Answering) -> Result<Made<Shown>> {
        let (secret, settings) = (Secret::generate()?, self.book.settings().clone());
        let now = self.clock.now();
        let rotate = move |c: &mut AnyConnection| {
            let mut endpoint = repo::find_for_update(c, id)?.ok_or_else(|| not_found(id))?;
            endpoint.rotate(secret.clone(), now, &settings);
            endpoint.updated_at = now;
            repo::update(c, &endpoint)?;
            let shown = answer(&endpoint, &secret)?;
            Ok(((endpoint, secret), shown))
        };
        let made = self.answered(mode, now, rotate).await?;
        if let Made::New((endpoint, _), _) = &made {
            self.book.forget(&endpoint.url);
        }
        Ok(made)
    }

    /// Sends to it again, as if it had never failed.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn enable(&self, id: EndpointId) -> Result<WebhookEndpoint> {
        let endpoint = self.change(id, |endpoint, _| endpoint.enable()).await?;
        self.book.tell(&endpoint, self.clock.now());
        Ok(endpoint)
    }

    /// Sends to it no more: its messages end failed.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn disable(&self, id: EndpointId) -> Result<WebhookEndpoint> {
        let endpoint = self.change(id, |endpoint, now| endpoint.disable(Disabled::ByHand, now)).await?;
        self.book.tell(&endpoint, self.clock.now());
        Ok(endpoint)
    }

    /// Forgets it. Messages to its URL go out as to any other that nobody registered.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, id: EndpointId) -> Result<()> {
        let gone = self.db.write(move |c| repo::delete(c, id)).await?.ok_or_else(|| not_found(id))?;
        self.book.forget(&gone.url);
        Ok(())
    }

    async fn change(
        &self,
        id: EndpointId,
        change: impl FnOnce(&mut WebhookEndpoint, Timestamp) + Send + 'static,
    ) -> Result<WebhookEndpoint> {
        let now = self.clock.now();
        let changed = move |c: &mut AnyConnection| {
            let mut endpoint = repo::find_for_update(c, id)?.ok_or_else(|| not_found(id))?;
            let before = endpoint.url.clone();
            change(&mut endpoint, now);
            endpoint.updated_at = now;
            repo::update(c, &endpoint)?;
            Ok((endpoint, before))
        };
        let (endpoint, before) = self.db.write(changed).await?;
        self.book.forget(&before);
        self.book.forget(&endpoint.url);
        Ok(endpoint)
    }

    fn check(&self, changes: Changes) -> Result<Checked> {
        let mut wrong = Complaints::default();
        if let Some(url) = &changes.url {
            wrong.check("url", self.guard.check_url(url, Plain::WithinAllowed));
        }
        if let Some(Some(text)) = &changes.description {
            wrong.check("description", description(text));
        }
        let secret = changes.secret.and_then(|text| wrong.check("secret", text.parse::<Secret>()));
        wrong.finish()?;
        Ok(Checked { url: changes.url, description: changes.description, secret })
    }
}

fn not_found(id: EndpointId) -> Error {
    Error::not_found("webhook endpoint", id)
}
