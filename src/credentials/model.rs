//! A credential: what is shown of it, and what is not.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::vault::{Unopened, Vault};
use crate::db::types::Timestamp;
use crate::error::{Error, Result};
use crate::kinds::coded_enum;

coded_enum! {
    /// How a credential lets a request in.
    Kind {
        /// `Authorization: Basic` with a name and a password (RFC 7617).
        Basic = 1 "basic",
        /// `Authorization: Bearer` with a token that stays (RFC 6750).
        Bearer = 2 "bearer",
        /// Any header with a value that stays, such as `X-Api-Key`.
        Header = 3 "header",
        /// A token that is fetched with the client credentials grant (RFC 6749, 4.4).
        Oauth2 = 4 "oauth2",
        /// A token that is fetched from Google as a service account (RFC 7523).
        GoogleServiceAccount = 5 "google_service_account",
    }
}

/// How a client says at its token endpoint who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// By HTTP Basic, which every server has to take (RFC 6749, 2.3.1).
    #[default]
    Basic,
    /// By `client_id` and `client_secret` in the body.
    Body,
}

/// A name: 1 to 64 of the letters a to z, digits, `_`, `.` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$", example = "crm")]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// As it stands in requests.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        crate::kinds::group(text).map(Self)
    }
}

/// What of a credential is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(as = CredentialShown)]
pub enum Shown {
    /// A name and a password.
    Basic {
        /// Null if there is no password: then the name is the secret, as with some providers' keys.
        username: Option<String>,
    },
    /// A token that stays.
    Bearer,
    /// A header.
    Header {
        /// Its name.
        #[schema(example = "x-api-key")]
        header: String,
    },
    /// An OAuth 2.0 client.
    Oauth2 {
        /// Where its tokens come from.
        token_url: String,
        /// Its name there.
        client_id: String,
        /// What tokens are asked for, if that has to be said.
        scope: Option<String>,
        /// For whom, if that has to be said.
        audience: Option<String>,
        /// How it says who it is.
        client_auth: ClientAuth,
    },
    /// A service account of Google's.
    GoogleServiceAccount {
        /// Its name.
        client_email: String,
        /// Its project.
        project_id: String,
        /// Which of its keys this is.
        private_key_id: Option<String>,
        /// Where its tokens come from.
        token_uri: String,
        /// What tokens are asked for.
        scopes: Vec<String>,
    },
}

impl Shown {
    /// Of which kind it is.
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

/// What of a credential is stored encrypted. It has no `Debug`, so that no log can show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Secret {
    /// See [`Shown::Basic`].
    Basic {
        /// The name, if it is the secret.
        username: Option<String>,
        /// The password.
        password: String,
    },
    /// See [`Shown::Bearer`].
    Bearer {
        /// The token.
        token: String,
    },
    /// See [`Shown::Header`].
    Header {
        /// The header's value.
        value: String,
    },
    /// See [`Shown::Oauth2`].
    Oauth2 {
        /// The client's secret.
        client_secret: String,
    },
    /// See [`Shown::GoogleServiceAccount`].
    GoogleServiceAccount {
        /// The JSON of the key.
        service_account: String,
    },
}

/// A credential as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Credential {
    /// What requests call it.
    pub name: Name,
    /// Words for people.
    pub description: Option<String>,
    /// What of it is no secret, by its kind.
    #[serde(flatten)]
    pub shown: Shown,
    /// Whether the key is here that it was encrypted with.
    pub usable: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed by a request.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A credential as it is stored. The encrypted part differs with every change of the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What requests call it.
    pub name: String,
    /// Words for people.
    pub description: Option<String>,
    /// [`Shown`] as JSON, to the letter: what is encrypted is bound to it.
    pub shown: String,
    /// [`Secret`] as JSON, encrypted.
    pub sealed: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed by a request.
    pub updated_at: Timestamp,
}

impl Stored {
    /// Encrypts the secret, bound to everything that says where it goes: in another row, or beside another address, it does
    /// not open.
    ///
    /// # Errors
    /// [`Error::Conflict`] without a key.
    pub fn close(&mut self, shown: &Shown, secret: &Secret, vault: &Vault) -> Result<()> {
        self.shown = json(shown)?;
        self.sealed = vault.seal(&json(secret)?, &self.bound())?;
        Ok(())
    }

    /// What is no secret.
    ///
    /// # Errors
    /// An internal error for what no version of this program wrote.
    pub fn shown(&self) -> Result<Shown> {
        serde_json::from_str(&self.shown)
            .map_err(|_| Error::internal(format!("the stored credential {} cannot be read", self.name)))
    }

    /// What is one.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn secret(&self, vault: &Vault) -> Result<Secret, Unopened> {
        let text = vault.open(&self.sealed, &self.bound())?;
        serde_json::from_str(secrecy::ExposeSecret::expose_secret(&text)).map_err(|_| Unopened::Changed)
    }

    /// The same, encrypted with the key that encrypts now.
    ///
    /// # Errors
    /// Why it does not open, and [`Error::Conflict`] without a key.
    pub fn resealed(&self, vault: &Vault) -> Result<Result<String>, Unopened> {
        let text = vault.open(&self.sealed, &self.bound())?;
        Ok(vault.seal(secrecy::ExposeSecret::expose_secret(&text), &self.bound()))
    }

    /// As the API shows it.
    ///
    /// # Errors
    /// As [`Stored::shown`].
    pub fn view(&self, vault: &Vault) -> Result<Credential> {
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
    serde_json::to_string(value).map_err(|_| Error::internal("a credential could not be written as JSON"))
}
