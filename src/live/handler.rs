//! `/api/v1/stream`: server-sent events (WHATWG HTML, section 9.2).

use std::time::Duration;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::board::Overtaken;
use super::event::{EventFilter, LiveEvent};
use super::publisher::{Live, Watch};
use crate::error::{Complaints, Error, Result};
use crate::http::events::{self, EventSource};
use crate::http::json::Query;
use crate::http::operations::{Operations, operations};
use crate::http::problem::Problem;
use crate::kinds::{ChannelKind, ChannelToPeople};
use crate::lifecycle::Shutdown;
use crate::mailings::views::MailingProgressView;

/// The time limit of the first poll of the mailings.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// The filter of a stream. All given conditions must hold.
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
    /// Only this channel.
    #[param(nullable = false, value_type = Option<ChannelToPeople>, inline)]
    channel: Option<String>,
}

impl StreamQuery {
    fn filter(&self) -> Result<EventFilter> {
        let mut wrong = Complaints::default();
        let no_id = |text: &str| format!("`{text}` is not a UUID");
        let mailing = self.mailing_id.as_deref().map(|text| text.parse().map_err(|_| no_id(text)));
        let batch = self.batch_id.as_deref().map(|text| text.parse().map_err(|_| no_id(text)));
        let channel = self.channel.as_deref().map(ChannelKind::to_people);
        let filter = EventFilter {
            mailing: mailing.and_then(|id| wrong.check("mailing_id", id)),
            batch: batch.and_then(|id| wrong.check("batch_id", id)),
            channel: channel.and_then(|channel| wrong.check("channel", channel)),
        };
        wrong.finish().map(|()| filter)
    }
}

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        get_stream: MailingsRead,
    ]
}

/// Watch notifications and mailings
///
/// Server-sent events. `notification`: the status of a notification changed (`NotificationChange`). `mailing`: the
/// status or the counts of a mailing changed (`MailingProgress`), at most about twice a second for each.
/// `webhook_endpoint`: the node that serves this stream disabled or enabled an endpoint (`EndpointChange`). `import`:
/// an import job of this node progressed (`ImportProgress`); streams with a filter do not contain it. `reset`: the
/// events after `Last-Event-ID` are not available any more, so read the state again. Open the stream first and then
/// read the state: the stream contains all later changes. A reader that is too slow is disconnected, and can reconnect
/// with `Last-Event-ID`.
#[utoipa::path(get, path = "/api/v1/stream", operation_id = "get_stream", tag = "operation",
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last received event, after which the stream continues")),
    responses(
        (status = 200, description = "Events, until either side closes the stream", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many streams are open, or the database is unavailable", body = Problem, content_type = "application/problem+json"),
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
            // at a shutdown the stream ends before its first event
            () = shutdown.wait() => Ok(()),
        };
        observed.map_err(|e| Error::Unavailable(e.into()))?;
    }
    let first = if watch.missed() { events::reset("") } else { String::new() };
    let overtaken = watch.overtaken().map(Overtaken::wait);
    Ok(events::stream(&request, (watch, first), overtaken, &shutdown))
}

impl EventSource for Watch {
    fn place(&self) -> Option<String> {
        self.last_id()
    }

    async fn next(&mut self) -> Option<String> {
        self.next_text(text).await
    }
}

/// Serializes an event.
fn text(id: &str, event: &LiveEvent) -> String {
    match event {
        LiveEvent::Notification(change) => events::event("notification", id, change),
        LiveEvent::Mailing(progress) => events::event("mailing", id, &MailingProgressView::from(progress)),
        LiveEvent::Endpoint(change) => events::event("webhook_endpoint", id, change),
        LiveEvent::Import(progress) => events::event("import", id, progress),
        LiveEvent::Missed => events::reset(id),
    }
}

#[cfg(test)]
mod tests;
