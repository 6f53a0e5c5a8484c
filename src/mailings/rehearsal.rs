//! Fills a mailing's texts for the first clients of its audience: for a preview, and before a mailing is stored.

use std::sync::Arc;

use crate::db::types::ClientId;
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;
use crate::mailings::filter::AudienceFilter;
use crate::mailings::model::PreviewSample;
use crate::mailings::recipient::Recipient;
use crate::mailings::repo::audience;
use crate::segments::segments;
use crate::templates::{Data, RenderPool, UnsubscribeUrl, Variants, WithLink};

/// The number of clients in a preview. A text that can be filled for one of them is accepted.
pub const SAMPLES: usize = 5;
/// The number of clients that are tried before a text that cannot be filled for any of them is refused.
const MOST_TRIED: usize = 100;
/// The most reads of an audience for its first clients; each covers a hundred ranges, which may be empty.
const MOST_READS: usize = 20;

/// The unsubscribe links in a mailing's texts.
#[derive(Clone, Default)]
pub struct MailingLinks {
    /// Creates a link, if recipients can reach the service.
    pub make: Option<UnsubscribeUrl>,
    /// The mailing's group.
    pub group: Option<String>,
}

impl MailingLinks {
    /// Fills texts with a client's data and its link.
    fn with<T>(&self, channel: ChannelKind, recipient: &Recipient, fill: impl FnOnce(&dyn Data) -> T) -> T {
        let link = || self.make.as_ref()?(channel, &recipient.address(channel).ok()?, self.group.as_deref());
        let data = recipient.data();
        fill(&WithLink::before(&data, link))
    }
}

/// The parts of a mailing that determine its messages.
#[derive(Clone)]
pub struct TextCheck {
    /// The filter that selects the audience.
    pub filter: AudienceFilter,
    /// The channel.
    pub channel: ChannelKind,
    /// The texts.
    pub content: Arc<Variants>,
    /// True if the texts were copied from a template.
    pub is_copied: bool,
    /// The links that are filled in with a client's data.
    pub links: MailingLinks,
}

impl TextCheck {
    /// Refuses texts that cannot be filled for any of the first clients of the audience. A text that can be filled for
    /// one of them is accepted; a client without the data has a failed message.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the text and the reason, and database errors.
    pub async fn check(&self, db: &Db, pool: &RenderPool) -> Result<()> {
        if !self.content.base().content.needs_values() {
            // the text is the same for all clients
            let content = Arc::clone(&self.content);
            let filled = pool.run(move || content.base().content.try_fill(&()).map(drop)).await?;
            return filled.map_err(|(field, why)| self.refusal(field, &format!("cannot be filled: {why}")));
        }
        let mut tried = 0;
        for wanted in [SAMPLES, MOST_TRIED] {
            let (filter, channel) = (self.filter.clone(), self.channel);
            let clients = db.read(move |c| first(c, &filter, None, channel, wanted)).await?;
            let is_all = clients.len() < wanted;
            let untried: Vec<_> =
                clients.into_iter().skip(tried).map(|client| (self.clone(), client)).collect();
            tried += untried.len();
            let filled = pool.map(untried, |(Self { content, channel, links, .. }, client)| {
                let content = &content.of(client.locale()).content;
                links.with(channel, &client, |data| content.try_fill(data).map(drop))
            });
            let filled = filled.await?;
            if tried == 0 || filled.iter().any(Result::is_ok) {
                return Ok(());
            }
            if let Some(Err((field, why))) = filled.first()
                && (is_all || wanted == MOST_TRIED)
            {
                let why =
                    format!("cannot be filled for any of the first {tried} clients of the audience: {why}");
                return Err(self.refusal(field, &why));
            }
        }
        Ok(())
    }

    fn refusal(&self, field: &str, why: &str) -> Error {
        Error::invalid(if self.is_copied { "template" } else { field }, why)
    }
}

/// Reads the first `wanted` clients of an audience, up to `upper_bound` if it is known.
///
/// # Errors
/// Database errors.
pub fn first(
    c: &mut AnyConnection,
    filter: &AudienceFilter,
    upper_bound: Option<ClientId>,
    channel: ChannelKind,
    wanted: usize,
) -> Result<Vec<Recipient>> {
    let (ranges, mut cursor) = (filter.ranges(), audience::AudienceCursor::default());
    let mut found = Vec::new();
    for _ in 0..MOST_READS {
        if found.len() >= wanted || cursor.range >= ranges.len() {
            break;
        }
        let limit = wanted - found.len();
        let reachable = filter.reachable();
        let needs = audience::ClientFields { channel, profile: true, reachable };
        let what = audience::AudienceRead { upper_bound, limit, needs };
        let (some, next) = audience::read(c, &ranges, cursor, what)?;
        found.extend(some);
        cursor = next;
    }
    Ok(found)
}

/// Returns the message that one client would get.
pub fn sample(
    (content, channel, links, recipient): (Option<Arc<Variants>>, ChannelKind, MailingLinks, Recipient),
) -> PreviewSample {
    let address = recipient.address(channel);
    let content = content.as_ref().map(|variants| &variants.of(recipient.locale()).content);
    let filled =
        content.map(|content| links.with(channel, &recipient, |data| content.fill(data))).transpose();
    let why = address.as_ref().err().or(filled.as_ref().err()).cloned();
    let filled = filled.ok().flatten();
    let has_segments = channel.spec().text.has_segments;
    PreviewSample {
        client_id: recipient.client_id,
        segments: filled.as_ref().filter(|_| has_segments).map(|filled| segments(&filled.text)),
        text: filled.as_ref().map(|filled| filled.text.clone()),
        subject: filled.as_ref().and_then(|filled| filled.subject.clone()),
        html: filled.and_then(|filled| filled.html),
        recipient: address.unwrap_or_default(),
        error: why,
    }
}
