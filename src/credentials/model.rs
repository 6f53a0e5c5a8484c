//! A credential: its public part and its secret part.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::vault::{DecryptError, Vault};
use crate::db::types::Timestamp;
use crate::error::{Error, Result};
use crate::kinds::coded_enum;

coded_enum! {
    /// The kind of authentication.
    Kind {
        /// `Authorization: Basic` with a name and a password (RFC 7617).
        Basic = 1 "basic",
        /// `Authorization: Bearer` with a fixed token (RFC 6750).
        Bearer = 2 "bearer",
        /// Any header with a fixed value, such as `X-Api-Key`.
        Header = 3 "header",
        /// A token that is fetched with the client credentials grant (RFC 6749, 4.4).
        Oauth2 = 4 "oauth2",
        /// A token that is fetched from Google as a service account (RFC 7523).
        GoogleServiceAccount = 5 "google_service_account",
    }
}

/// How a client authenticates at its token endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// HTTP Basic, which every server must support (RFC 6749, 2.3.1).
    #[default]
    Basic,
    /// `client_id` and `client_secret` in the body.
    Body,
}

/// The name of a credential: 1 to 64 characters, which are letters a to z, digits, `_`, `.` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[schema(as = Name, min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$", example = "crm")]
#[serde(transparent)]
pub struct CredentialName(String);

impl CredentialName {
    /// Returns the name as requests have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CredentialName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        crate::kinds::group(text).map(Self)
    }
}

/// The public part of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(as = CredentialShown)]
pub enum CredentialSummary {
    /// A username and a password.
    Basic {
        /// The username. Null without a password: then the username is the secret, as with some providers' API keys.
        username: Option<String>,
    },
    /// A fixed token.
    Bearer,
    /// A header with a fixed value.
    Header {
        /// The name of the header.
        #[schema(example = "x-api-key")]
        header: String,
    },
    /// An OAuth 2.0 client.
    Oauth2 {
        /// The URL of the token endpoint.
        token_url: String,
        /// The client id.
        client_id: String,
        /// The scope that is requested, if any: scopes separated by spaces.
        scope: Option<String>,
        /// The audience that is requested, if any.
        audience: Option<String>,
        /// The way of authentication at the token endpoint.
        client_auth: ClientAuth,
    },
    /// A Google service account.
    GoogleServiceAccount {
        /// The e-mail address that identifies the account.
        client_email: String,
        /// The id of its project.
        project_id: String,
        /// The id of its key.
        private_key_id: Option<String>,
        /// The URL of the token endpoint.
        token_uri: String,
        /// The scopes that are requested.
        scopes: Vec<String>,
    },
}

impl CredentialSummary {
    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Basic { .. } => Kind::Basic,
            Self::Bearer => Kind::Bearer,
            Self::Header { .. } => Kind::Header,
            Self::Oauth2 { .. } => Kind::Oauth2,
            Self::GoogleServiceAccount { .. } => Kind::GoogleServiceAccount,
        }
    }
}

/// The secret part of a credential, which is stored encrypted. It has no `Debug`, so that no log can show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CredentialSecret {
    /// See [`CredentialSummary::Basic`].
    Basic {
        /// The username, if it is the secret.
        username: Option<String>,
        /// The password.
        password: String,
    },
    /// See [`CredentialSummary::Bearer`].
    Bearer {
        /// The token.
        token: String,
    },
    /// See [`CredentialSummary::Header`].
    Header {
        /// The header's value.
        value: String,
    },
    /// See [`CredentialSummary::Oauth2`].
    Oauth2 {
        /// The client secret.
        client_secret: String,
    },
    /// See [`CredentialSummary::GoogleServiceAccount`].
    GoogleServiceAccount {
        /// The JSON of the account's key.
        service_account: String,
    },
}

/// A credential, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The name by which requests refer to it.
    pub name: CredentialName,
    /// A description for people.
    pub description: Option<String>,
    /// The public part, which depends on the kind.
    pub shown: CredentialSummary,
    /// True if the service has the key that it was encrypted with.
    pub usable: bool,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of the last change by a request.
    pub updated_at: Timestamp,
}

/// A stored credential. The encrypted part changes whenever the public part does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCredential {
    /// The name by which requests refer to it.
    pub name: String,
    /// A description for people.
    pub description: Option<String>,
    /// [`CredentialSummary`] as JSON, byte for byte, because the encrypted part is bound to it.
    pub shown: String,
    /// [`CredentialSecret`] as JSON, encrypted.
    pub sealed: String,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of the last change by a request.
    pub updated_at: Timestamp,
}

impl StoredCredential {
    /// Encrypts the secret, bound to every field that decides where it is sent: in another row or with another address
    /// it cannot be decrypted.
    ///
    /// # Errors
    /// [`Error::Conflict`] without a key.
    pub fn close(
        &mut self,
        shown: &CredentialSummary,
        secret: &CredentialSecret,
        vault: &Vault,
    ) -> Result<()> {
        self.shown = json(shown)?;
        self.sealed = vault.seal(&json(secret)?, &self.bound())?;
        Ok(())
    }

    /// Returns the public part.
    ///
    /// # Errors
    /// [`Error::Internal`] for JSON that no version of this program wrote.
    pub fn shown(&self) -> Result<CredentialSummary> {
        serde_json::from_str(&self.shown)
            .map_err(|_| Error::internal(format!("the stored credential {} cannot be read", self.name)))
    }

    /// Decrypts the secret.
    ///
    /// # Errors
    /// The reason why it cannot be decrypted.
    pub fn secret(&self, vault: &Vault) -> Result<CredentialSecret, DecryptError> {
        let text = vault.open(&self.sealed, &self.bound())?;
        serde_json::from_str(secrecy::ExposeSecret::expose_secret(&text)).map_err(|_| DecryptError::Changed)
    }

    /// Returns the secret, encrypted again with the first key.
    ///
    /// # Errors
    /// The reason why it cannot be decrypted, and [`Error::Conflict`] without a key.
    pub fn resealed(&self, vault: &Vault) -> Result<Result<String>, DecryptError> {
        let text = vault.open(&self.sealed, &self.bound())?;
        Ok(vault.seal(secrecy::ExposeSecret::expose_secret(&text), &self.bound()))
    }

    /// Returns the credential without its secret.
    ///
    /// # Errors
    /// The same as [`StoredCredential::shown`].
    pub fn without_secret(&self, vault: &Vault) -> Result<Credential> {
        Ok(Credential {
            name: self.name.parse().map_err(Error::internal)?,
            description: self.description.clone(),
            shown: self.shown()?,
            usable: vault.knows(&self.sealed),
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }

    fn bound(&self) -> String {
        format!("credential\n{}\n{}", self.name, self.shown)
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|_| Error::internal("a credential could not be serialized as JSON"))
}
