//! People over HTTP: `DELETE /api/v1/clients/{id}` and `GET /api/v1/clients/{id}/export`.

use std::collections::VecDeque;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, Resource};
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{ErasedClient, ExportedInboxMessage, ExportedMessage, Sent};
use super::usecase::{Known, People};
use crate::clients::model::Client;
use crate::db::types::EventId;
use crate::error::{Error, Result};
use crate::events::model::Event;
use crate::http::json::path_id;
use crate::http::routing::{get, others};
use crate::preferences::model::ClientPreferences;
use crate::suppressions::model::Suppression;

/// Messages and events that an export reads before it writes them.
const AT_ONCE: usize = 100;

/// Registers the routes, relative to `/api/v1`; `client` is the resource of one client, without its deletion.
pub fn routes(client: Resource) -> impl FnOnce(&mut web::ServiceConfig) {
    |cfg| {
        cfg.service(
            client
                .route(web::delete().to(delete_client))
                .default_service(others("GET, HEAD, PUT, PATCH, DELETE")),
        )
        .service(
            web::resource("/clients/{id}/export")
                .route(get().to(export_client))
                .default_service(others("GET, HEAD")),
        );
    }
}

/// Erase a client
///
/// The person is erased with it: its addresses, the texts of its messages and the payloads of the events that caused them.
/// Messages that wait for it are cancelled. The messages stay in the counts, and a suppression of its addresses stays as a hash.
#[utoipa::path(
    delete,
    path = "/api/v1/clients/{id}",
    operation_id = "delete_client",
    tag = "clients",
    params(("id" = uuid::Uuid, Path, description = "The id of the client")),
    responses(
        (status = 200, description = "What was erased", body = ErasedClient),
    )
)]
pub async fn delete_client(people: web::Data<People>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(people.erase(path_id(&id)?).await?))
}

/// All that is known of a person, for the API's document.
#[derive(Serialize, ToSchema)]
pub struct ClientExport {
    /// The client.
    client: Client,
    /// Its wishes.
    preferences: ClientPreferences,
    /// Suppressions of its addresses.
    suppressions: Vec<Suppression>,
    /// The state of its inbox.
    inbox: Vec<ExportedInboxMessage>,
    /// All messages that went to it or to its addresses, the oldest first.
    messages: Vec<ExportedMessage>,
    /// The events that caused some of them.
    events: Vec<Event>,
}

/// Export a client
///
/// All that is known of one person: the client, its preferences, what stands against its addresses, its inbox, every
/// message with its attempts, and the events that caused them.
#[utoipa::path(
    get,
    path = "/api/v1/clients/{id}/export",
    operation_id = "export_client",
    tag = "clients",
    params(("id" = uuid::Uuid, Path, description = "The id of the client")),
    responses(
        (status = 200, description = "The person", body = ClientExport),
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

/// The rest of an export. A database that goes away breaks the answer off.
struct Export {
    people: Arc<People>,
    pieces: VecDeque<Piece>,
    needs_comma: bool,
}

/// A piece of the text of an export.
enum Piece {
    /// Text that begins or ends a list.
    Frame(String),
    Message(Sent),
    Event(EventId),
}

impl Export {
    fn new(people: Arc<People>, known: Known) -> Result<Self> {
        let Known { client, preferences, suppressions, messages, events, inbox } = known;
        let head = format!(
            "{{\"client\":{},\"preferences\":{},\"suppressions\":{},\"inbox\":{},\"messages\":[",
            json(&client)?,
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

    /// The next part of the text; none at its end.
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
                Piece::Message(sent) => self.people.message(sent).await?.map(|message| json(&message)),
                Piece::Event(id) => self.people.event(id).await?.map(|event| json(&event)),
            };
            if let Some(item) = item.transpose()? {
                if std::mem::replace(&mut self.needs_comma, true) {
                    text.push(',');
                }
                text.push_str(&item);
            }
        }
        if text.is_empty() {
            // an empty chunk would be the end of the answer
            text.push('\n');
        }
        Ok(Some(text))
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Internal(e.into()))
}
