//! Clients, as the API shows them.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{
    Attributes, Client, Email, ExternalId, OperatorCode, PhoneNumber, PushToken, Tag, Timezone,
};
use crate::db::types::{ClientId, Timestamp};
use crate::locale::Locale;

/// A person who can be reached.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Client)]
pub struct ClientView {
    /// The id that this service assigned: a UUIDv7, which sorts by the time of creation.
    #[schema(example = "01922f4e-7a3b-7c1d-9e5f-0a1b2c3d4e5f")]
    pub id: ClientId,
    /// The digits of the E.164 number, unique among clients.
    pub phone_number: Option<PhoneNumber>,
    /// The mobile operator's code. It is derived from a Russian number when it was not given.
    pub mobile_operator_code: Option<OperatorCode>,
    /// The first of its tags.
    pub tag: Option<Tag>,
    /// Labels that select audiences, compared without case.
    #[schema(max_items = 50)]
    pub tags: Vec<Tag>,
    /// The IANA name of the client's time zone.
    pub timezone: Option<Timezone>,
    /// The client's language, which selects the variant of a template.
    pub locale: Option<Locale>,
    /// The address for the e-mail channel.
    pub email: Option<Email>,
    /// The token for the push channel.
    pub push_token: Option<PushToken>,
    /// The client's id in your other systems, unique among clients.
    pub external_id: Option<ExternalId>,
    /// The values for the placeholders of a text.
    pub attributes: Attributes,
    /// The time at which the client was created.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    pub created_at: Timestamp,
    /// The time of the client's last change.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    pub updated_at: Timestamp,
}

impl From<Client> for ClientView {
    fn from(client: Client) -> Self {
        let Client {
            id,
            phone_number,
            mobile_operator_code,
            tag,
            tags,
            timezone,
            locale,
            email,
            push_token,
            external_id,
            attributes,
            created_at,
            updated_at,
        } = client;
        Self {
            id,
            phone_number,
            mobile_operator_code,
            tag,
            tags,
            timezone,
            locale,
            email,
            push_token,
            external_id,
            attributes,
            created_at,
            updated_at,
        }
    }
}
