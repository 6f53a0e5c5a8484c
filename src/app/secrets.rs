//! Secrets that are generated if they are not configured.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::config::Config;
use crate::db::Db;
use crate::db::secrets::secret;
use crate::db::types::Timestamp;
use crate::error::Result;
use crate::preferences::link::UnsubscribeLinks;

/// The secrets of tokens and links: each is the configured secret, else a random one that is generated once and stored
/// in the database. The API key is never used, since the reader of a link could try keys against it offline.
#[derive(Clone)]
pub(super) struct Secrets {
    pub(super) inbox: Vec<u8>,
    pub(super) unsubscribe: Vec<u8>,
    /// Encrypts stored responses that contain secrets, if there is no key for credentials.
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

    /// Returns the builder of unsubscribe links, if the service has a public URL.
    pub(super) fn links(&self, config: &Config) -> Option<Arc<UnsubscribeLinks>> {
        let url = config.http.public_url.as_deref();
        url.map(|url| Arc::new(UnsubscribeLinks::new(url, &self.unsubscribe)))
    }
}
