//! The export of clients as a CSV file that can be imported again.

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse};

use crate::clients::model::{
    AttributeValue, Email, ExternalId, Field, ListFilter, OperatorCode, PushToken, join,
};
use crate::clients::usecase::Clients;
use crate::clients::views::ClientView;
use crate::db::types::ClientId;
use crate::error::Result;
use crate::http::export;

/// Returns the matching clients as a file.
///
/// # Errors
/// Those of the first page, and of [`Clients::columns`].
pub(super) async fn export(
    request: &HttpRequest,
    clients: Clients,
    filter: ListFilter,
    (cursor, most): (Option<ClientId>, u64),
) -> Result<HttpResponse> {
    let attributes = clients.columns(&filter, cursor, most).await?;
    // all tags share the column `tags`
    let fields = || Field::ALL.iter().filter(|field| **field != Field::Tag);
    let names = fields().map(|field| Cow::from(field.name()));
    let columns = names.chain(attributes.iter().map(|name| name.clone().into())).collect();
    let read = move |cursor, count| {
        let (clients, filter) = (clients.clone(), filter.clone());
        async move { clients.list(filter, cursor, count, ClientView::from).await }
    };
    export::file(request, ("clients", columns), (cursor, most), read, move |client: &ClientView| {
        let cells = fields().map(|field| text(client, *field));
        let attribute =
            |name: &String| client.attributes.get(name).map(AttributeValue::to_text).unwrap_or_default();
        Ok(Some(cells.chain(attributes.iter().map(attribute)).collect()))
    })
    .await
}

/// Returns the cell of a field; empty if the client has no value.
fn text(client: &ClientView, field: Field) -> Cow<'_, str> {
    fn optional<T>(field: Option<&T>, text: fn(&T) -> &str) -> Cow<'_, str> {
        field.map(text).unwrap_or_default().into()
    }
    match field {
        Field::PhoneNumber => client.phone_number.map(|number| number.to_string().into()).unwrap_or_default(),
        Field::OperatorCode => optional(client.mobile_operator_code.as_ref(), OperatorCode::as_str),
        Field::Tag | Field::Tags => join(&client.tags),
        Field::Timezone => client.timezone.map(|zone| zone.as_str()).unwrap_or_default().into(),
        Field::Locale => client.locale.as_ref().map(ToString::to_string).unwrap_or_default().into(),
        Field::Email => optional(client.email.as_ref(), Email::as_str),
        Field::PushToken => optional(client.push_token.as_ref(), PushToken::as_str),
        Field::ExternalId => optional(client.external_id.as_ref(), ExternalId::as_str),
    }
}
