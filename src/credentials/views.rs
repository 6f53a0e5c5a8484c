//! Credentials, as the API shows them.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Credential, CredentialName, CredentialSummary};
use crate::db::types::Timestamp;

/// A credential, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Credential)]
pub struct CredentialView {
    /// The name by which requests refer to it.
    pub name: CredentialName,
    /// A description for people.
    pub description: Option<String>,
    /// The public part, which depends on the kind.
    #[serde(flatten)]
    pub shown: CredentialSummary,
    /// True if the service has the key that it was encrypted with.
    pub usable: bool,
    /// The time of its creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The time of the last change by a request.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl From<Credential> for CredentialView {
    fn from(credential: Credential) -> Self {
        let Credential { name, description, shown, usable, created_at, updated_at } = credential;
        Self { name, description, shown, usable, created_at, updated_at }
    }
}
