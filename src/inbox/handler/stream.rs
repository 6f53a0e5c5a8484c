//! What a user's page is told of the inbox that it shows.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use tokio::time::Instant;

use crate::db::types::{MessageId, Timestamp};
use crate::error::Result;
use crate::http::events::{self, Source};
use crate::inbox::Inbox;
use crate::inbox::model::UserId;
use crate::inbox::usecase::News;
use crate::lifecycle::Shutdown;
use crate::live::board::Overtaken;
use crate::live::inboxes::{InboxChange, InboxEvent, InboxWatch, What};

/// A page that shows an inbox.
struct Page {
    watch: InboxWatch,
    inbox: web::Data<Inbox>,
    user: UserId,
    /// What was told and is not sent yet: it waits here while the database is asked.
    told: Vec<(String, InboxEvent)>,
    /// What other nodes did before they knew that they are listened to was not told.
    settled_at: Option<Instant>,
    /// The end of the token by which the page was let in.
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

/// Opens the stream of a user's page, which may be open for so long.
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
    // after a restart of the service its pages do not come back all at once
    let first =
        format!("retry: {}\n\n{reset}{}", fastrand::u32(2000..8000), events::event("count", "", &count));
    let overtaken = watch.overtaken().map(Overtaken::wait);
    let ends_at = left.map(|left| Instant::now() + left);
    let page = Page { watch, inbox, user, told: Vec::new(), settled_at, ends_at };
    Ok(events::stream(request, (page, first), overtaken, shutdown))
}

impl Source for Page {
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
            InboxEvent::Change(InboxChange { what: What::Delivered, message, .. }) => *message,
            _ => None,
        });
        let news = match self.inbox.news(self.user.clone(), came.collect()).await {
            Ok(news) => news,
            Err(error) => {
                tracing::warn!(%error, "a stream of an inbox ended, since the inbox could not be read; the page comes back");
                return None;
            }
        };
        let told = std::mem::take(&mut self.told);
        let mut text: String = told.iter().map(|(id, event)| written(id, event, &news)).collect();
        let last = told.last().map(|(id, _)| id.as_str()).unwrap_or_default();
        text.push_str(&events::event("count", last, &news.count));
        Some(text)
    }
}

/// Never when there is no such time.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn written(id: &str, event: &InboxEvent, news: &News) -> String {
    let InboxEvent::Change(InboxChange { what, message, at, .. }) = event else { return events::reset(id) };
    match (what, message) {
        (What::Delivered, Some(message)) => {
            // it may have expired, or be another user's
            let found = news.messages.iter().find(|found| found.id == *message);
            found.map(|found| events::event("message", id, found)).unwrap_or_default()
        }
        (What::Read | What::Unread | What::Archived, Some(message)) => {
            events::event(what.as_str(), id, &Marked { id: *message, at: *at })
        }
        (What::AllRead, _) => events::event(what.as_str(), id, &AllRead { before: *at }),
        (_, None) => String::new(),
    }
}
