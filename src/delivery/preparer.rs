//! Builds the delivery of a message.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::active_mailing::ActiveMailing;
use super::model::QueuedMessage;
use super::origin::Origin;
use super::reasons::{CLIENT_DELETED, PANICKED};
use crate::channels::Delivery;
use crate::kinds::ErrorClass;
use crate::mailings::recipient::Recipient;
use crate::preferences::link::UnsubscribeLinks;
use crate::templates::{Filled, RenderPool, WithLink};

/// Builds the deliveries of messages.
pub struct Preparer {
    /// The threads that render mailings' texts.
    pub(super) renderers: RenderPool,
    /// Builds the links to unsubscribe, if recipients can reach the service.
    pub(super) links: Option<Arc<UnsubscribeLinks>>,
}

impl Preparer {
    /// Builds the delivery; a mailing's text is rendered on a blocking thread. Returns `None` when the process ends.
    pub async fn prepare(
        &self,
        item: QueuedMessage,
    ) -> Option<(QueuedMessage, Result<Delivery, PreparationFailure>)> {
        let (links, is_plain) = (self.links.clone(), item.origin.is_plain());
        let prepare = move || {
            let prepared = unpanicked(|| delivery(&item, links.as_deref()));
            (item, prepared)
        };
        if is_plain { Some(prepare()) } else { self.renderers.run(prepare).await.ok() }
    }
}

/// Converts a panic to a failure of the message: without an outcome its lease would be held until the next start.
fn unpanicked<T>(work: impl FnOnce() -> Result<T, PreparationFailure>) -> Result<T, PreparationFailure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err((ErrorClass::Template, PANICKED.to_owned())))
}

/// The reason why a message cannot be delivered.
pub type PreparationFailure = (ErrorClass, String);

/// Builds the delivery for the provider.
fn delivery(item: &QueuedMessage, links: Option<&UnsubscribeLinks>) -> Result<Delivery, PreparationFailure> {
    let recipient = item.address().map_err(|why| (ErrorClass::Unreachable, why))?;
    let (filled, data, request) = match &item.origin {
        Origin::Mailing(run) => {
            let link = || links?.url(item.origin.channel(), &recipient, item.origin.group()).ok();
            (filled(run, item.recipient.as_ref(), &link)?, None, None)
        }
        Origin::Standalone(single) => (single.content.clone(), single.data.clone(), single.request.clone()),
    };
    let Filled { subject, text, html } = filled;
    let is_bulk = matches!(item.origin, Origin::Mailing(_));
    let links = links.filter(|_| may_unsubscribe(item));
    let (channel, group) = (item.origin.channel(), item.origin.group());
    let unsubscribe = links.map(|links| links.url(channel, &recipient, group)).transpose();
    let unsubscribe = unsubscribe.map_err(|error| (ErrorClass::Template, error.to_string()))?;
    Ok(Delivery { id: item.id, recipient, subject, text, html, data, request, is_bulk, unsubscribe })
}

/// Returns true if the message has a link to unsubscribe.
fn may_unsubscribe(item: &QueuedMessage) -> bool {
    let origin = &item.origin;
    let is_of_a_kind = origin.group().is_some() || origin.mailing().is_some();
    origin.channel().spec().has_unsubscribe_link && is_of_a_kind && !origin.is_transactional()
}

/// Renders the mailing's content for this client.
fn filled(
    run: &ActiveMailing,
    recipient: Option<&Recipient>,
    link: &dyn Fn() -> Option<String>,
) -> Result<Filled, PreparationFailure> {
    let of_text = |why: String| (ErrorClass::Template, why);
    let variants = run.content.as_ref().map_err(|why| of_text(why.clone()))?;
    let content = &variants.of(recipient.and_then(Recipient::locale)).content;
    match recipient {
        Some(recipient) => content.fill(&WithLink::before(&recipient.data(), link)).map_err(of_text),
        None if !content.needs_values() => content.fill(&()).map_err(of_text),
        None => Err((ErrorClass::Unreachable, CLIENT_DELETED.to_owned())),
    }
}
