//! The row of an endpoint.

use diesel::prelude::*;

use crate::channels::webhook::Secret;
use crate::db::schema::webhook_endpoint;
use crate::db::types::{EndpointId, Timestamp};
use crate::endpoints::model::WebhookEndpoint;
use crate::error::{Error, Result};
use crate::kinds::Disabled;

// no Debug, since it contains secrets
#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = webhook_endpoint, treat_none_as_null = true)]
pub(super) struct EndpointRow {
    id: EndpointId,
    url: String,
    description: Option<String>,
    is_registered: bool,
    secret: Option<String>,
    old_secret: Option<String>,
    old_secret_until: Option<Timestamp>,
    disabled: Option<i16>,
    disabled_at: Option<Timestamp>,
    failing_since: Option<Timestamp>,
    failures: i32,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<&WebhookEndpoint> for EndpointRow {
    fn from(endpoint: &WebhookEndpoint) -> Self {
        let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        Self {
            id: endpoint.id,
            url: endpoint.url.clone(),
            description: endpoint.description.clone(),
            is_registered: endpoint.is_registered,
            secret: text(&endpoint.secret),
            old_secret: text(&endpoint.old_secret),
            old_secret_until: endpoint.old_secret_until,
            disabled: endpoint.disabled_reason.map(Disabled::code),
            disabled_at: endpoint.disabled_at,
            failing_since: endpoint.failing_since,
            failures: endpoint.failures,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

impl TryFrom<EndpointRow> for WebhookEndpoint {
    type Error = Error;

    fn try_from(row: EndpointRow) -> Result<Self> {
        let wrong =
            |field| Error::internal(format!("the stored {field} of endpoint {} is not valid", row.id));
        let secret = |text: Option<String>| text.map(|text| text.parse::<Secret>()).transpose();
        let disabled = row.disabled.map(Disabled::from_code).transpose()?;
        let (secret, old_secret) = (
            secret(row.secret).map_err(|_| wrong("secret"))?,
            secret(row.old_secret).map_err(|_| wrong("old_secret"))?,
        );
        Ok(Self {
            id: row.id,
            url: row.url,
            description: row.description,
            is_registered: row.is_registered,
            is_enabled: disabled.is_none(),
            disabled_reason: disabled,
            disabled_at: row.disabled_at,
            failing_since: row.failing_since,
            failures: row.failures,
            has_own_secret: secret.is_some(),
            old_secret_until: row.old_secret_until,
            created_at: row.created_at,
            updated_at: row.updated_at,
            secret,
            old_secret,
        })
    }
}
