//! The event stream of a user's inbox.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use tokio::time::Instant;

use crate::db::types::{MessageId, Timestamp};
use crate::error::Result;
use crate::http::events::{self, EventSource};
use crate::inbox::Inbox;
use crate::inbox::model::UserId;
use crate::inbox::usecase::InboxUpdate;
use crate::inbox::views::{InboxCountView, InboxMessageView};
use crate::lifecycle::Shutdown;
use crate::live::board::Overtaken;
use crate::live::inboxes::{InboxChange, InboxChangeKind, InboxEvent, InboxWatch};

/// A subscription of a page that shows an inbox.
struct InboxSubscription {
    watch: InboxWatch,
    inbox: web::Data<Inbox>,
    user: UserId,
    /// Received events that are not sent yet. They wait here while the database is queried.
    told: Vec<(String, InboxEvent)>,
    /// The time from which the events of other nodes are received. Events before it were missed.
    settled_at: Option<Instant>,
    /// The expiry of the page's token.
    ends_at: Option<Instant>,
}

#[derive(Serialize)]
struct Marked {
    id: MessageId,
    at: Timestamp,
}

#[derive(Serialize)]
struct AllRead {
    before: Timestamp,
}

/// Opens the stream of a user's page. `left` is the remaining lifetime of its token.
pub(super) async fn open(
    request: &HttpRequest,
    inbox: web::Data<Inbox>,
    (user, left): (UserId, Option<Duration>),
    shutdown: &Shutdown,
) -> Result<HttpResponse> {
    let Some(mut watch) = inbox.watch(&user, events::last_event_id(request)) else {
        return Ok(events::too_many());
    };
    let settled_at = inbox.settles_in().map(|time| Instant::now() + time);
    let count = inbox.count(user.clone()).await?;
    let reset = if watch.missed() { events::reset("") } else { String::new() };
    // randomized, so that pages do not reconnect all at once after a restart of the service
    let first = format!(
        "retry: {}\n\n{reset}{}",
        fastrand::u32(2000..8000),
        events::event("count", "", &InboxCountView::from(&count))
    );
    let overtaken = watch.overtaken().map(Overtaken::wait);
    let ends_at = left.map(|left| Instant::now() + left);
    let page = InboxSubscription { watch, inbox, user, told: Vec::new(), settled_at, ends_at };
    Ok(events::stream(request, (page, first), overtaken, shutdown))
}

impl EventSource for InboxSubscription {
    fn place(&self) -> Option<String> {
        self.watch.last_id().filter(|_| self.told.is_empty())
    }

    async fn next(&mut self) -> Option<String> {
        if self.told.is_empty() {
            tokio::select! {
                biased;
                () = sleep_until(self.ends_at) => return None,
                () = sleep_until(self.settled_at) => {
                    self.settled_at = None;
                    return Some(events::reset(""));
                }
                told = self.watch.next() => self.told = told?,
            }
        }
        let came = self.told.iter().filter_map(|(_, event)| match event {
            InboxEvent::Change(InboxChange { what: InboxChangeKind::Delivered, message, .. }) => *message,
            _ => None,
        });
        let news = match self.inbox.news(self.user.clone(), came.collect()).await {
            Ok(news) => news,
            Err(error) => {
                tracing::warn!(%error, "inbox stream ended: the inbox could not be read; the page will reconnect");
                return None;
            }
        };
        let told = std::mem::take(&mut self.told);
        let mut text: String = told.iter().map(|(id, event)| written(id, event, &news)).collect();
        let last = told.last().map(|(id, _)| id.as_str()).unwrap_or_default();
        text.push_str(&events::event("count", last, &InboxCountView::from(&news.count)));
        Some(text)
    }
}

/// Sleeps until a time, or forever if there is none.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn written(id: &str, event: &InboxEvent, news: &InboxUpdate) -> String {
    let InboxEvent::Change(InboxChange { what, message, at, .. }) = event else { return events::reset(id) };
    match (what, message) {
        (InboxChangeKind::Delivered, Some(message)) => {
            // the message may have expired, or belong to another user
            let found = news.messages.iter().find(|found| found.id == *message);
            found
                .map(|found| events::event("message", id, &InboxMessageView::from(found)))
                .unwrap_or_default()
        }
        (InboxChangeKind::Read | InboxChangeKind::Unread | InboxChangeKind::Archived, Some(message)) => {
            events::event(what.as_str(), id, &Marked { id: *message, at: *at })
        }
        (InboxChangeKind::AllRead, _) => events::event(what.as_str(), id, &AllRead { before: *at }),
        (_, None) => String::new(),
    }
}
