//! `/api/v1/stream`: server-sent events (WHATWG HTML, section 9.2).

use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use actix_web::http::header;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::{Event, Filter, Live, Overtaken, Watch};
use crate::error::{Complaints, Error, Result};
use crate::http::cut::Cut;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::routing::{get, others};
use crate::kinds::ChannelKind;
use crate::lifecycle::Shutdown;

/// Often enough for proxies, which close what is silent for a minute or less.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// How long the first look at the mailings may take.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// What a reset says.
const MISSED: &str = r#"{"detail":"events were missed: read the state anew"}"#;
/// How long a reader has for what was sent when the service stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a stream is asked for. What is given must all hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Only this mailing.
    #[param(nullable = false, format = Uuid)]
    mailing_id: Option<String>,
    /// Only notifications of this batch.
    #[param(nullable = false, format = Uuid)]
    batch_id: Option<String>,
    /// Only what goes out on this channel.
    #[param(nullable = false, value_type = Option<ChannelKind>, inline)]
    channel: Option<String>,
}

impl StreamQuery {
    fn filter(&self) -> Result<Filter> {
        let mut wrong = Complaints::default();
        let no_id = |text: &str| format!("`{text}` is not a UUID");
        let mailing = self.mailing_id.as_deref().map(|text| text.parse().map_err(|_| no_id(text)));
        let batch = self.batch_id.as_deref().map(|text| text.parse().map_err(|_| no_id(text)));
        let channel = self.channel.as_deref().map(str::parse);
        let filter = Filter {
            mailing: mailing.and_then(|id| wrong.check("mailing_id", id)),
            batch: batch.and_then(|id| wrong.check("batch_id", id)),
            channel: channel.and_then(|channel| wrong.check("channel", channel)),
        };
        wrong.finish().map(|()| filter)
    }
}

/// Adds the route under the API's root.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/stream").route(get().to(get_stream)).default_service(others("GET, HEAD")));
}

/// Watch notifications and mailings
///
/// Server-sent events. `notification`: one came to another state (`NotificationChange`). `mailing`: its status or counts
/// changed (`MailingProgress`), at most about twice a second for each. `webhook_endpoint`: one was disabled or enabled
/// by the node that is asked (`EndpointChange`). `reset`: what came after `Last-Event-ID` is not
/// known any more, so read the state anew. Open the stream first and then read the state: what changes after that is
/// told. A reader that is too slow is cut off; it comes back with `Last-Event-ID`.
#[utoipa::path(get, path = "/api/v1/stream", operation_id = "get_stream", tag = "operation",
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received, to go on from there")),
    responses(
        (status = 200, description = "Events until one side ends it", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many streams are open, or the database cannot be used", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn get_stream(
    live: web::Data<Live>,
    shutdown: web::Data<Shutdown>,
    request: HttpRequest,
    Query(query): Query<StreamQuery>,
) -> Result<HttpResponse> {
    let filter = query.filter()?;
    if request.method() == Method::HEAD {
        return Ok(head().finish());
    }
    let last = request.headers().get("last-event-id").map(|id| id.to_str().unwrap_or("unreadable"));
    let Some(mut watch) = live.watch(filter, last.filter(|id| !id.is_empty())) else {
        return Ok(too_many());
    };
    if filter.lets_mailings_through() {
        let observed = tokio::time::timeout(FIRST_LOOK, live.mailings_are_observed()).await;
        observed.map_err(|e| Error::Unavailable(e.into()))?;
    }
    if let Some(overtaken) = watch.overtaken() {
        let shutdown = shutdown.get_ref().clone();
        actix_web::rt::spawn(guard(Cut::of(&request), overtaken, shutdown));
    }
    let opening = Some(opening(&watch));
    let open = Open { watch, shutdown: shutdown.get_ref().clone(), opening };
    Ok(head().streaming(stream::unfold(open, Open::next)))
}

fn head() -> HttpResponseBuilder {
    let mut head = HttpResponse::Ok();
    head.insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would hold events back until they fill a buffer
        .insert_header(("X-Accel-Buffering", "no"));
    head
}

fn too_many() -> HttpResponse {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "/problems/too-many-streams",
        "Too many streams are open",
        "this node serves no more streams at once; close some, or try again in a moment",
    )
    .response()
}

/// Cuts the connection of a reader that is too slow, or that does not read when the service stops: what ends the answer
/// would never reach it.
async fn guard(cut: Cut, overtaken: Overtaken, shutdown: Shutdown) {
    tokio::select! {
        biased;
        () = shutdown.wait() => tokio::time::sleep(LAST_WORDS).await,
        too_slow = overtaken.wait() => {
            if !too_slow {
                return;
            }
            tracing::info!("a stream was cut off: its reader was too slow");
        }
    }
    cut.now();
}

/// An open stream.
struct Open {
    watch: Watch,
    shutdown: Shutdown,
    opening: Option<String>,
}

impl Open {
    /// The next piece of its text.
    async fn next(mut self) -> Option<(std::result::Result<web::Bytes, Infallible>, Self)> {
        let text = match self.opening.take() {
            Some(opening) => opening,
            None => tokio::select! {
                biased;
                () = self.shutdown.wait() => return None,
                events = self.watch.next() => events?.iter().map(|(id, event)| text(id, event)).collect(),
                // with the place by now, also when nothing of it was let through: so it is not lost in a quiet stream
                () = tokio::time::sleep(COMMENT_EVERY) => format!(":\n{}\n", id_line(&self.watch)),
            },
        };
        Some((Ok(text.into()), self))
    }
}

/// What a stream begins with: the place from which it goes on, and that something was missed before it.
fn opening(watch: &Watch) -> String {
    let mut text = format!(":\n{}\n", id_line(watch));
    if watch.missed() {
        // a String takes everything
        let _ = write!(text, "event: reset\ndata: {MISSED}\n\n");
    }
    text
}

fn id_line(watch: &Watch) -> String {
    watch.last_id().map(|id| format!("id: {id}\n")).unwrap_or_default()
}

/// An event as the wire has it.
fn text(id: &str, event: &Event) -> String {
    let (name, data) = match event {
        Event::Notification(change) => ("notification", json(change)),
        Event::Mailing(progress) => ("mailing", json(progress)),
        Event::Endpoint(change) => ("webhook_endpoint", json(change)),
        Event::Missed => ("reset", MISSED.to_owned()),
    };
    let mut text = String::with_capacity(data.len() + 80);
    // a String takes everything
    let _ = write!(text, "event: {name}\nid: {id}\ndata: {data}\n\n");
    text
}

/// On one line, as JSON without spaces is.
fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_default()
}

#[cfg(test)]
mod tests;
