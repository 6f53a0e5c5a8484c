//! The use cases of webhook endpoints.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::cache::EndpointCache;
use super::model::WebhookEndpoint;
use super::repo;
use crate::channels::webhook::Secret;
use crate::clock::Clock;
use crate::credentials::Vault;
use crate::db::types::{EndpointId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::egress::guard::{Guard, PlainHttp};
use crate::error::{Complaints, Error, Result};
use crate::idempotency::{self, Claim, Created, IdempotentResponse, Mode};
use crate::kinds::Disabled;
use crate::kinds::description;
use crate::paging;

/// The endpoints of one database; cloning it is cheap.
#[derive(Clone)]
pub struct Endpoints {
    db: Db,
    clock: Clock,
    guard: Arc<Guard>,
    book: Arc<EndpointCache>,
    /// Encrypts responses with secrets, which are stored for the lifetime of their idempotency keys.
    vault: Arc<Vault>,
}

/// The fields of a new or changed endpoint. An absent field stays.
#[derive(Debug, Default)]
pub struct EndpointChanges {
    /// The URL.
    pub url: Option<String>,
    /// The description; `Some(None)` clears it.
    pub description: Option<Option<String>>,
    /// The secret, `whsec_…`.
    pub secret: Option<String>,
}

/// Builds the response that shows an endpoint with its secret.
pub type BuildEndpointResponse = fn(&WebhookEndpoint, &Secret) -> Result<IdempotentResponse>;

/// An endpoint and its secret.
pub type EndpointWithSecret = (WebhookEndpoint, Secret);

/// The associated data of encrypted responses. Changing it would make stored ones unreadable.
const SEALED: &str = "an answer with the secret of a webhook endpoint";

/// Validated [`EndpointChanges`].
struct CheckedEndpoint {
    url: Option<String>,
    description: Option<Option<String>>,
    secret: Option<Secret>,
}

impl Endpoints {
    /// Creates the service. The cache is the one of this node's webhook channel, so that changes take effect there at
    /// once; they take effect on other nodes within seconds.
    pub fn new(
        db: Db,
        clock: Clock,
        guard: Arc<Guard>,
        (book, vault): (Arc<EndpointCache>, Arc<Vault>),
    ) -> Self {
        Self { db, clock, guard, book, vault }
    }

    /// Registers an endpoint, with the given secret or a new one. `answer` builds the response, the only one with the
    /// secret, which a repeated request with the same key gets again.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Conflict`] if the URL is already registered.
    pub async fn create(
        &self,
        new: EndpointChanges,
        mode: Mode,
        answer: BuildEndpointResponse,
    ) -> Result<Created<EndpointWithSecret>> {
        let CheckedEndpoint { url, description, secret } = self.check(new)?;
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
            // its state from before the registration does not count
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

    /// Does `work`, whose response contains a secret, once under its key.
    async fn answered(
        &self,
        mode: Mode,
        now: Timestamp,
        work: impl FnOnce(&mut AnyConnection) -> Result<(EndpointWithSecret, IdempotentResponse)> + Send + 'static,
    ) -> Result<Created<EndpointWithSecret>> {
        let key = match mode {
            Mode::Commit(key) => key,
            Mode::DryRun => {
                let (shown, answer) = self.db.rehearse(work).await?;
                return Ok(Created::New(shown, answer.of_dry_run()));
            }
        };
        let (claim, vault) = (Claim::before_answer(key, uuid::Uuid::now_v7()), Arc::clone(&self.vault));
        let seal = move |answer: &IdempotentResponse| {
            let body = serde_json::to_string(&vault.seal(&answer.body, SEALED)?);
            Ok(IdempotentResponse { body: body.map_err(|e| Error::Internal(e.into()))?, ..answer.clone() })
        };
        let once =
            move |c: &mut AnyConnection| idempotency::once_answered(c, claim.as_ref(), now, work, seal);
        match self.db.write(once).await? {
            Created::Before(sealed) => self.opened(sealed).map(Created::Before),
            new => Ok(new),
        }
    }

    fn opened(&self, answer: IdempotentResponse) -> Result<IdempotentResponse> {
        let sealed: String = serde_json::from_str(&answer.body).map_err(|e| Error::Internal(e.into()))?;
        let body = self.vault.open(&sealed, SEALED).map_err(|_| {
            Error::Conflict(
                "the request was processed before, but its response cannot be decrypted: the keys were changed"
                    .into(),
            )
        })?;
        Ok(IdempotentResponse { body: body.expose_secret().to_owned(), ..answer })
    }

    /// Returns the endpoint with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: EndpointId) -> Result<WebhookEndpoint> {
        self.db.read(move |c| repo::find(c, id)).await?.ok_or_else(|| not_found(id))
    }

    /// Returns the endpoints after `cursor`, in the order of creation, and the next cursor.
    ///
    /// # Errors
    /// Database errors.
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

    /// Changes the given fields. After a new secret, the old one signs as well during the overlap.
    ///
    /// # Errors
    /// [`Error::NotFound`], and the errors of [`Endpoints::create`].
    pub async fn patch(&self, id: EndpointId, changes: EndpointChanges) -> Result<WebhookEndpoint> {
        let CheckedEndpoint { url, description, secret } = self.check(changes)?;
        let settings = self.book.settings().clone();
        self.change(id, move |endpoint, now| {
            if let Some(url) = url
                && url != endpoint.url
            {
                endpoint.url = url;
                // the failures belong to the previous server
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

    /// Replaces the secret with a new one, which only the response contains. The old secret signs as well during the
    /// overlap.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn rotate_secret(
        &self,
        id: EndpointId,
        mode: Mode,
        answer: BuildEndpointResponse,
    ) -> Result<Created<EndpointWithSecret>> {
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
        if let Created::New((endpoint, _), _) = &made {
            self.book.forget(&endpoint.url);
        }
        Ok(made)
    }

    /// Enables an endpoint, and resets its failures.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn enable(&self, id: EndpointId) -> Result<WebhookEndpoint> {
        let endpoint = self.change(id, |endpoint, _| endpoint.enable()).await?;
        self.book.tell(&endpoint, self.clock.now());
        Ok(endpoint)
    }

    /// Disables an endpoint: messages to it fail.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn disable(&self, id: EndpointId) -> Result<WebhookEndpoint> {
        let endpoint = self.change(id, |endpoint, now| endpoint.disable(Disabled::ByHand, now)).await?;
        self.book.tell(&endpoint, self.clock.now());
        Ok(endpoint)
    }

    /// Deletes an endpoint. Messages to its URL are sent as to any unregistered URL.
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

    fn check(&self, changes: EndpointChanges) -> Result<CheckedEndpoint> {
        let mut wrong = Complaints::default();
        if let Some(url) = &changes.url {
            wrong.check("url", self.guard.check_url(url, PlainHttp::WithinAllowed));
        }
        if let Some(Some(text)) = &changes.description {
            wrong.check("description", description(text));
        }
        let secret = changes.secret.and_then(|text| wrong.check("secret", text.parse::<Secret>()));
        wrong.finish()?;
        Ok(CheckedEndpoint { url: changes.url, description: changes.description, secret })
    }
}

fn not_found(id: EndpointId) -> Error {
    Error::not_found("webhook endpoint", id)
}
