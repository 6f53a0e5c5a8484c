//! Server-sent events (WHATWG HTML, section 9.2), whatever they tell.

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

/// Often enough for proxies, which close what is silent for a minute or less.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// What a reset says.
const MISSED: &str = r#"{"detail":"events were missed: read the state anew"}"#;
/// How long a reader has for what was sent when the service stops.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Where a stream's events come from.
pub trait Source {
    /// The id of the last event that was sent or passed over; none when there is no saying.
    fn place(&self) -> Option<String>;

    /// The next events as the wire has them; none at the end. Dropped before it returns, it has taken nothing.
    fn next(&mut self) -> impl Future<Output = Option<String>>;
}

/// The answer to a request for a stream, without events.
pub fn head() -> HttpResponseBuilder {
    let mut head = HttpResponse::Ok();
    head.insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would hold events back until they fill a buffer
        .insert_header(("X-Accel-Buffering", "no"));
    head
}

/// The answer when more streams are open than may be.
pub fn too_many() -> HttpResponse {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "/problems/too-many-streams",
        "Too many streams are open",
        "this node serves no more streams at once; close some, or try again in a moment",
    )
    .response()
}

/// The place at which a request for a stream wants to go on.
pub fn last_event_id(request: &HttpRequest) -> Option<&str> {
    let last = request.headers().get("last-event-id").map(|id| id.to_str().unwrap_or("unreadable"));
    last.filter(|id| !id.is_empty())
}

/// A stream that begins with its place and these events, until its source or the service ends. A reader that is too slow
/// is cut off.
pub fn stream(
    request: &HttpRequest,
    (source, first): (impl Source + 'static, String),
    overtaken: Option<impl Future<Output = bool> + 'static>,
    shutdown: &Shutdown,
) -> HttpResponse {
    if let Some(overtaken) = overtaken {
        actix_web::rt::spawn(guard(Disconnect::of(request), overtaken, shutdown.clone()));
    }
    let opening = Some(format!("{}{first}", comment(&source)));
    let open = Open { source, shutdown: shutdown.clone(), opening };
    head().streaming(stream::unfold(open, Open::next))
}

/// Cuts the connection of a reader that is too slow, or that does not read when the service stops: what ends the answer
/// would never reach it.
async fn guard(disconnect: Disconnect, overtaken: impl Future<Output = bool>, shutdown: Shutdown) {
    tokio::select! {
        biased;
        () = shutdown.wait() => tokio::time::sleep(LAST_WORDS).await,
        too_slow = overtaken => {
            if !too_slow {
                return;
            }
            tracing::info!("a stream was cut off: its reader was too slow");
        }
    }
    disconnect.now();
}

/// An open stream.
struct Open<S> {
    source: S,
    shutdown: Shutdown,
    opening: Option<String>,
}

impl<S: Source> Open<S> {
    /// The next piece of its text.
    async fn next(mut self) -> Option<(Result<web::Bytes, Infallible>, Self)> {
        let text = match self.opening.take() {
            Some(opening) => opening,
            None => tokio::select! {
                biased;
                () = self.shutdown.wait() => return None,
                text = self.source.next() => text?,
                // with the place by now, also when nothing of it was let through: so it is not lost in a quiet stream
                () = tokio::time::sleep(COMMENT_EVERY) => comment(&self.source),
            },
        };
        Some((Ok(text.into()), self))
    }
}

/// Says nothing but the place.
fn comment(source: &impl Source) -> String {
    let id = source.place().map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!(":\n{id}\n")
}

/// An event as the wire has it. An empty id leaves the reader's place as it is.
pub fn event(name: &str, id: &str, data: &impl Serialize) -> String {
    // on one line, as JSON without spaces is
    let data = serde_json::to_string(data).unwrap_or_default();
    written(name, id, &data)
}

/// The event that says: events were missed, read the state anew.
pub fn reset(id: &str) -> String {
    written("reset", id, MISSED)
}

fn written(name: &str, id: &str, data: &str) -> String {
    let mut text = String::with_capacity(data.len() + 80);
    // a String takes everything
    let _ = writeln!(text, "event: {name}");
    if !id.is_empty() {
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "data: {data}\n\n");
    text
}
