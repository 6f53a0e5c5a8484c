//! `/api/v1/stream`: server-sent events (WHATWG HTML, section 9.2).

use std::time::Duration;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::board::Overtaken;
use super::{Event, Filter, Live, Watch};
use crate::error::{Complaints, Error, Result};
use crate::http::events::{self, Source};
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::routing::{get, others};
use crate::kinds::{ChannelKind, ChannelToPeople};
use crate::lifecycle::Shutdown;

/// How long the first look at the mailings may take.
const FIRST_LOOK: Duration = Duration::from_secs(5);

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
    #[param(nullable = false, value_type = Option<ChannelToPeople>, inline)]
    channel: Option<String>,
}

impl StreamQuery {
    fn filter(&self) -> Result<Filter> {
        let mut wrong = Complaints::default();
        let no_id = |text: &str| format!("`{text}` is not a UUID");
        let mailing = self.mailing_id.as_deref().map(|text| text.parse().map_err(|_| no_id(text)));
        let batch = self.batch_id.as_deref().map(|text| text.parse().map_err(|_| no_id(text)));
        let channel = self.channel.as_deref().map(ChannelKind::to_people);
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
/// by the node that is asked (`EndpointChange`). `import`: one that this node runs as a job has come farther
/// (`ImportProgress`); a stream with a filter has none. `reset`: what came after `Last-Event-ID` is not
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
        return Ok(events::head().finish());
    }
    let Some(mut watch) = live.watch(filter, events::last_event_id(&request)) else {
        return Ok(events::too_many());
    };
    if filter.lets_mailings_through() {
        let observed = tokio::select! {
            observed = tokio::time::timeout(FIRST_LOOK, live.mailings_are_observed()) => observed,
            // the stream ends before its first event
            () = shutdown.wait() => Ok(()),
        };
        observed.map_err(|e| Error::Unavailable(e.into()))?;
    }
    let first = if watch.missed() { events::reset("") } else { String::new() };
    let overtaken = watch.overtaken().map(Overtaken::wait);
    Ok(events::stream(&request, (watch, first), overtaken, &shutdown))
}

impl Source for Watch {
    fn place(&self) -> Option<String> {
        self.last_id()
    }

    async fn next(&mut self) -> Option<String> {
        self.next_text(text).await
    }
}

/// An event as the wire has it.
fn text(id: &str, event: &Event) -> String {
    match event {
        Event::Notification(change) => events::event("notification", id, change),
        Event::Mailing(progress) => events::event("mailing", id, progress),
        Event::Endpoint(change) => events::event("webhook_endpoint", id, change),
        Event::Import(progress) => events::event("import", id, progress),
        Event::Missed => events::reset(id),
    }
}

#[cfg(test)]
mod tests;
