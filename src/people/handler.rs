//! The HTTP handlers of people: `DELETE /api/v1/clients/{id}` and `GET /api/v1/clients/{id}/export`.

use std::collections::VecDeque;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, Bytes};
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{ErasedClient, ExportedInboxMessage, MessageRef};
use super::usecase::{People, PersonData};
use super::views::ExportedMessageView;
use crate::clients::views::ClientView;
use crate::db::types::EventId;
use crate::error::{Error, Result};
use crate::events::views::EventView;
use crate::http::json::path_id;
use crate::http::operations::{Operations, operations};
use crate::preferences::model::ClientPreferences;
use crate::suppressions::model::Suppression;

/// The number of messages and events in one chunk of an export.
const AT_ONCE: usize = 100;

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        delete_client: ClientsWrite,
        export_client: ClientsRead,
    ]
}

/// Erase a client
///
/// Erases the client and the person's data: the addresses, the texts of its messages, and the payloads of the events
/// that caused them. Its queued messages are cancelled. The messages stay in the counts, and suppressions of its
/// addresses stay as hashes.
#[utoipa::path(
    delete,
    path = "/api/v1/clients/{id}",
    operation_id = "delete_client",
    tag = "clients",
    params(("id" = uuid::Uuid, Path, description = "The id of the client")),
    responses(
        (status = 200, description = "The number of erased records", body = ErasedClient),
    )
)]
pub async fn delete_client(people: web::Data<People>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(people.erase(path_id(&id)?).await?))
}

/// A person's data. The type only defines the schema; the response is streamed.
#[derive(Serialize, ToSchema)]
pub struct ClientExport<'m> {
    /// The client.
    client: ClientView,
    /// The client's preferences.
    preferences: ClientPreferences,
    /// The suppressions of its addresses.
    suppressions: Vec<Suppression>,
    /// The state of the messages in its inbox.
    inbox: Vec<ExportedInboxMessage>,
    /// All messages to the client or to its addresses, the oldest first.
    messages: Vec<ExportedMessageView<'m>>,
    /// The events that caused these messages.
    events: Vec<EventView<'m>>,
}

/// Export a client
///
/// Exports a person's data: the client, its preferences, the suppressions of its addresses, its inbox, every message
/// with its attempts, and the events that caused them.
#[utoipa::path(
    get,
    path = "/api/v1/clients/{id}/export",
    operation_id = "export_client",
    tag = "clients",
    params(("id" = uuid::Uuid, Path, description = "The id of the client")),
    responses(
        (status = 200, description = "The person's data", body = ClientExport),
    )
)]
pub async fn export_client(people: web::Data<People>, id: web::Path<String>) -> Result<HttpResponse> {
    let id = path_id(&id)?;
    let known = people.known(id).await?;
    let export = Export::new(people.into_inner(), known)?;
    let parts = stream::try_unfold(export, |mut export| async move {
        let part = export.next().await?;
        Ok::<_, Error>(part.map(|part| (Bytes::from(part), export)))
    });
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"client-{id}.json\"")))
        .streaming(parts))
}

/// The unsent part of an export. If the database becomes unavailable, the response is cut off.
struct Export {
    people: Arc<People>,
    pieces: VecDeque<Piece>,
    needs_comma: bool,
}

/// A part of an export.
enum Piece {
    /// JSON text that begins or ends a list.
    Frame(String),
    Message(MessageRef),
    Event(EventId),
}

impl Export {
    fn new(people: Arc<People>, known: PersonData) -> Result<Self> {
        let PersonData { client, preferences, suppressions, messages, events, inbox } = known;
        let head = format!(
            "{{\"client\":{},\"preferences\":{},\"suppressions\":{},\"inbox\":{},\"messages\":[",
            json(&ClientView::from(client))?,
            json(&preferences)?,
            json(&suppressions)?,
            json(&inbox)?,
        );
        let pieces = std::iter::once(Piece::Frame(head))
            .chain(messages.into_iter().map(Piece::Message))
            .chain([Piece::Frame("],\"events\":[".into())])
            .chain(events.into_iter().map(Piece::Event))
            .chain([Piece::Frame("]}".into())]);
        Ok(Self { people, pieces: pieces.collect(), needs_comma: false })
    }

    /// Returns the next chunk of the text; `None` at the end.
    async fn next(&mut self) -> Result<Option<String>> {
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let mut text = String::new();
        let count = AT_ONCE.min(self.pieces.len());
        for piece in self.pieces.drain(..count) {
            let item = match piece {
                Piece::Frame(frame) => {
                    text.push_str(&frame);
                    self.needs_comma = false;
                    continue;
                }
                Piece::Message(sent) => {
                    let message = self.people.message(sent).await?;
                    message.map(|message| json(&ExportedMessageView::from(&message)))
                }
                Piece::Event(id) => self.people.event(id).await?.map(|event| json(&EventView::from(&event))),
            };
            if let Some(item) = item.transpose()? {
                if std::mem::replace(&mut self.needs_comma, true) {
                    text.push(',');
                }
                text.push_str(&item);
            }
        }
        if text.is_empty() {
            // an empty chunk would end the response
            text.push('\n');
        }
        Ok(Some(text))
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Internal(e.into()))
}
