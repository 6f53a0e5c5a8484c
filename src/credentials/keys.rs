//! Gives channels the authorizations of credentials, from the cache.
//!
//! A cache entry is compared with the database again after a second, so a change by another node takes effect here within
//! about a second. A change by this node takes effect at once.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::cache::{CachedCredential, KeyLookup};
use super::model::{CredentialSecret, CredentialSummary, StoredCredential};
use super::repo;
use super::tokens::TokenRequest;
use super::usecase::{Credentials, unopened};
use super::vault::DecryptError;
use crate::channels::keyring::{Authorization, Authorizing, Keyring, Unauthorized};
use crate::oauth::{FailureKind, TokenCache};

impl Credentials {
    async fn authorization(&self, name: &str) -> Result<Authorization, Unauthorized> {
        match &*self.held(name).await? {
            CachedCredential::Fixed(authorization) => Ok(authorization.clone()),
            CachedCredential::Locked(why) => Err(why.clone()),
            CachedCredential::Fetched(tokens) => match tokens.get().await {
                Ok(token) => {
                    Ok(Authorization { name: AUTHORIZATION, value: token.bearer, number: token.number })
                }
                Err(failure) => {
                    let why =
                        format!("no token could be fetched for the credential `{name}`: {}", failure.why);
                    Err(match failure.kind {
                        FailureKind::Lasting => Unauthorized::Never(why),
                        FailureKind::Passing => Unauthorized::NotNow(why),
                        FailureKind::LocalFault => Unauthorized::LocalFault,
                    })
                }
            },
        }
    }

    async fn held(&self, name: &str) -> Result<Arc<CachedCredential>, Unauthorized> {
        let (known, changes) = self.ring.find(name);
        if let KeyLookup::Fresh(held) = known {
            return Ok(held);
        }
        let asked = name.to_owned();
        let found = match (self.db.read(move |c| repo::find(c, &asked)).await, known) {
            (Ok(Some(found)), KeyLookup::Old(held, sealed)) if sealed == found.sealed => return Ok(held),
            (Ok(found), _) => found,
            (Err(_), KeyLookup::Old(held, _)) => return Ok(held),
            (Err(_), _) => {
                let why = format!("the credential `{name}` could not be read from the database");
                return Err(Unauthorized::NotNow(why));
            }
        };
        let Some(found) = found else {
            // not cached: otherwise attempts would fail after the credential is created
            self.ring.drop_entry(name);
            return Err(Unauthorized::Never(format!("there is no credential `{name}`")));
        };
        Ok(self.ring.remember(name, &found.sealed, self.open(&found), changes))
    }

    fn open(&self, stored: &StoredCredential) -> CachedCredential {
        let never = |why| CachedCredential::Locked(Unauthorized::Never(unopened(&stored.name, why)));
        let Ok(shown) = stored.shown() else { return never(DecryptError::Changed) };
        let secret = match stored.secret(&self.vault) {
            Ok(secret) => secret,
            // another node may have the key, or this node after its next start
            Err(why @ DecryptError::UnknownKey) => {
                return CachedCredential::Locked(Unauthorized::NotNow(unopened(&stored.name, why)));
            }
            Err(why @ DecryptError::Changed) => return never(why),
        };
        self.held_of(shown, secret).unwrap_or_else(|| never(DecryptError::Changed))
    }

    /// Returns `None` for parts of different kinds and for parts that are not valid. The service never stores these.
    fn held_of(&self, shown: CredentialSummary, secret: CredentialSecret) -> Option<CachedCredential> {
        let fetched = |asking: TokenRequest| {
            Some(CachedCredential::Fetched(Box::new(TokenCache::new(asking, self.clock.clone()))))
        };
        match (shown, secret) {
            (
                CredentialSummary::Basic { username },
                CredentialSecret::Basic { username: hidden, password },
            ) => {
                let user = username.or(hidden)?;
                fixed(AUTHORIZATION, &format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            (CredentialSummary::Bearer, CredentialSecret::Bearer { token }) => {
                fixed(AUTHORIZATION, &format!("Bearer {token}"))
            }
            (CredentialSummary::Header { header }, CredentialSecret::Header { value }) => {
                fixed(HeaderName::try_from(header).ok()?, &value)
            }
            (shown @ CredentialSummary::Oauth2 { .. }, CredentialSecret::Oauth2 { client_secret }) => {
                fetched(TokenRequest::as_client(Arc::clone(&self.guard), shown, &client_secret)?)
            }
            (
                CredentialSummary::GoogleServiceAccount { scopes, .. },
                CredentialSecret::GoogleServiceAccount { service_account },
            ) => fetched(TokenRequest::as_account(Arc::clone(&self.guard), &scopes, service_account)?),
            _ => None,
        }
    }
}

fn fixed(name: HeaderName, value: &str) -> Option<CachedCredential> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(CachedCredential::Fixed(Authorization { name, value, number: 0 }))
}

impl Keyring for Credentials {
    fn authorize<'a>(&'a self, credential: &'a str) -> Authorizing<'a> {
        Box::pin(self.authorization(credential))
    }

    fn refuse(&self, credential: &str, authorization: &Authorization) {
        if let Some(CachedCredential::Fetched(tokens)) = self.ring.get(credential).as_deref() {
            tokens.refuse(authorization.number);
        }
    }
}
