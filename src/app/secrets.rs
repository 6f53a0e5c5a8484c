//! The secrets that are generated if they are not configured.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::config::Config;
use crate::db::Db;
use crate::db::secrets::secret;
use crate::db::types::Timestamp;
use crate::error::Result;
use crate::preferences::link::Links;

/// The secrets of tokens and links: the configured ones, and in place of one that is not configured one that was
/// generated and is kept in the database. Never the API key: a link would let its reader try keys without asking.
#[derive(Clone)]
pub(super) struct Secrets {
    pub(super) inbox: Vec<u8>,
    pub(super) unsubscribe: Vec<u8>,
    /// Encrypts what is kept of answers with secrets, where there is no key for credentials.
    pub(super) answers: Vec<u8>,
}

impl Secrets {
    pub(super) async fn load(config: &Config, db: &Db, now: Timestamp) -> Result<Self> {
        let [inbox, unsubscribe, answers] =
            ["inbox", "unsubscribe", "answers"].map(|name| db.write(move |c| secret(c, name, now)));
        let (inbox, unsubscribe, answers) = (inbox.await?, unsubscribe.await?, answers.await?);
        let configured = |secret: &Option<SecretString>, generated: Vec<u8>| {
            secret.as_ref().map_or(generated, |secret| secret.expose_secret().as_bytes().to_vec())
        };
        Ok(Self {
            inbox: configured(&config.in_app.secret, inbox),
            unsubscribe: configured(&config.preferences.unsubscribe_secret, unsubscribe),
            answers,
        })
    }

    /// Makes the links to unsubscribe, if recipients can reach the service.
    pub(super) fn links(&self, config: &Config) -> Option<Arc<Links>> {
        let url = config.http.public_url.as_deref();
        url.map(|url| Arc::new(Links::new(url, &self.unsubscribe)))
    }
}
