//! Server-sent events (WHATWG HTML, section 9.2), independent of their content.

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Future;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use futures_util::stream;
use serde::Serialize;

use super::connection::Disconnect;
use super::problem::Problem;
use crate::lifecycle::Shutdown;

/// The interval of comments. Proxies close connections that are silent for about a minute.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// The data of a `reset` event.
const MISSED: &str = r#"{"detail":"events were missed: reload the state"}"#;
/// The time in which a reader can take the last events when the service stops.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The source of a stream's events.
pub trait EventSource {
    /// Returns the id of the last event that was sent or skipped; none if it is unknown.
    fn place(&self) -> Option<String>;

    /// Returns the next events in wire format; none at the end. Cancel-safe: if the future is dropped, no event is
    /// lost.
    fn next(&mut self) -> impl Future<Output = Option<String>>;
}

/// Returns the head of a stream's response, without events.
pub fn head() -> HttpResponseBuilder {
    let mut head = HttpResponse::Ok();
    head.insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would delay events until they fill a buffer
        .insert_header(("X-Accel-Buffering", "no"));
    head
}

/// Returns the response when the limit of open streams is reached.
pub fn too_many() -> HttpResponse {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "/problems/too-many-streams",
        "Too many open streams",
        "the limit of open streams on this node is reached; close some, or retry later",
    )
    .response()
}

/// Returns the id after which a request wants to resume its stream.
pub fn last_event_id(request: &HttpRequest) -> Option<&str> {
    let last = request.headers().get("last-event-id").map(|id| id.to_str().unwrap_or("unreadable"));
    last.filter(|id| !id.is_empty())
}

/// Returns a stream that begins with the id of its position and these events, and ends with its source or the service.
/// A reader that is too slow is disconnected.
pub fn stream(
    request: &HttpRequest,
    (source, first): (impl EventSource + 'static, String),
    overtaken: Option<impl Future<Output = bool> + 'static>,
    shutdown: &Shutdown,
) -> HttpResponse {
    if let Some(overtaken) = overtaken {
        actix_web::rt::spawn(guard(Disconnect::of(request), overtaken, shutdown.clone()));
    }
    let opening = Some(format!("{}{first}", comment(&source)));
    let open = OpenStream { source, shutdown: shutdown.clone(), opening };
    head().streaming(stream::unfold(open, OpenStream::next))
}

/// Closes the connection of a reader that is too slow, or that does not read when the service stops: the regular end of
/// the response would never reach it.
async fn guard(disconnect: Disconnect, overtaken: impl Future<Output = bool>, shutdown: Shutdown) {
    tokio::select! {
        biased;
        () = shutdown.wait() => tokio::time::sleep(LAST_WORDS).await,
        too_slow = overtaken => {
            if !too_slow {
                return;
            }
            tracing::info!("stream closed: reader too slow");
        }
    }
    disconnect.now();
}

/// An open stream.
struct OpenStream<S> {
    source: S,
    shutdown: Shutdown,
    opening: Option<String>,
}

impl<S: EventSource> OpenStream<S> {
    /// Returns the next piece of its text.
    async fn next(mut self) -> Option<(Result<web::Bytes, Infallible>, Self)> {
        let text = match self.opening.take() {
            Some(opening) => opening,
            None => tokio::select! {
                biased;
                () = self.shutdown.wait() => return None,
                text = self.source.next() => text?,
                // with the current position, also when all events were filtered out: otherwise a quiet stream loses it
                () = tokio::time::sleep(COMMENT_EVERY) => comment(&self.source),
            },
        };
        Some((Ok(text.into()), self))
    }
}

/// Formats a comment that carries only the position.
fn comment(source: &impl EventSource) -> String {
    let id = source.place().map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!(":\n{id}\n")
}

/// Formats an event. An empty id keeps the reader's position.
pub fn event(name: &str, id: &str, data: &impl Serialize) -> String {
    // JSON without spaces is one line, as the format needs
    let data = serde_json::to_string(data).unwrap_or_default();
    written(name, id, &data)
}

/// Formats the event that tells the reader to reload the state, since events were missed.
pub fn reset(id: &str) -> String {
    written("reset", id, MISSED)
}

fn written(name: &str, id: &str, data: &str) -> String {
    let mut text = String::with_capacity(data.len() + 80);
    // writing to a String cannot fail
    let _ = writeln!(text, "event: {name}");
    if !id.is_empty() {
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "data: {data}\n\n");
    text
}
