//! The use cases of mailings.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Clock;
use crate::db::types::{MailingId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, FieldError, Result};
use crate::failpoint;
use crate::idempotency::{self, Claim, Created, IdempotencyKey, IdempotentResponse};
use crate::kinds::ChannelKind;
use crate::mailings::filter::AudienceFilter;
use crate::mailings::model::{
    Audience, CopiedTemplate, Mailing, MailingChange, MailingDraft, MailingOverview, MailingPreview,
    MailingStats, MailingStatus, Window,
};
use crate::mailings::recipient::FIELDS;
use crate::mailings::rehearsal::{self, MailingLinks, TextCheck};
use crate::mailings::repo::{self, audience};
use crate::messages::model::Counts;
use crate::paging::Page;
use crate::templates::{Templates, Texts, UNSUBSCRIBE_URL, Variant, Variants};

/// The port through which mailings wake the engine. A call is a hint; the engine's own poll is the guarantee.
pub trait Wakeup: Send + Sync {
    /// Signals that a mailing was started, paused, resumed or cancelled, or that its end was changed.
    fn mailing_changed(&self);
    /// Signals that a mailing was paused or cancelled: this node starts none of its messages from now on.
    fn mailing_stopped(&self, id: MailingId, status: MailingStatus);
    /// Signals that the due time of a pending mailing may have changed.
    fn pending_changed(&self);
}

/// The port through which previews read the rates of channels.
pub trait ChannelRates: Send + Sync {
    /// Returns the expected rate of the channel in messages per second, if it is known.
    fn rate(&self, channel: ChannelKind) -> Option<f64>;
}

/// The use cases of mailings.
#[derive(Clone)]
pub struct Mailings {
    db: Db,
    clock: Clock,
    wakeup: Arc<dyn Wakeup>,
    rates: Arc<dyn ChannelRates>,
    missing: HashMap<ChannelKind, String>,
    templates: Templates,
}

impl Mailings {
    /// Creates the use cases over a database and an engine. `missing` has the channels that cannot send, each with the
    /// reason.
    pub fn new(
        db: Db,
        clock: Clock,
        (wakeup, rates): (Arc<dyn Wakeup>, Arc<dyn ChannelRates>),
        missing: HashMap<ChannelKind, String>,
        templates: Templates,
    ) -> Self {
        Self { db, clock, wakeup, rates, missing, templates }
    }

    /// Creates a mailing. If its start is not in the future it starts at once, with the present audience. `answer`
    /// makes the response, which is stored under the idempotency key.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid window, or a placeholder that cannot be filled for any client.
    pub async fn create(
        &self,
        new: MailingDraft,
        key: Option<IdempotencyKey>,
        answer: impl FnOnce(&Mailing, Vec<FieldError>) -> Result<IdempotentResponse>,
    ) -> Result<Created<Mailing>> {
        let now = self.clock.now();
        let window = complete_window(&new, now)?;
        let begins = window.starts_at <= now;
        let CheckedMailing { counted, copied, warnings } = match self.check(&new, &window, now).await {
            Ok(checked) => checked,
            Err(refused) => return idempotency::made_before(&self.db, key, refused, now).await,
        };
        let own = new.texts();
        let (template, template_version, texts, variants) = match copied {
            Some(c) => (Some(c.template), Some(c.version), c.texts, c.variants),
            None => (None, None, own, Vec::new()),
        };
        let mailing = Mailing {
            id: MailingId::new(),
            text: texts.text,
            subject: texts.subject,
            html: texts.html,
            template,
            template_version,
            variants,
            filter: new.filter,
            channel: new.channel,
            priority: new.priority,
            status: if begins { MailingStatus::Running } else { MailingStatus::Pending },
            starts_at: window.starts_at,
            ends_at: window.ends_at,
            rate_per_second: new.rate_per_second,
            group: new.group,
            transactional: new.is_transactional,
            created_at: now,
            updated_at: now,
            started_at: begins.then_some(now),
            finished_at: None,
            counts: Counts::balanced(counted.map_or(0, |audience| audience.total), 0, [0; 4]),
        };
        let answer = answer(&mailing, warnings)?;
        let claim = Claim::of(key, mailing.id.0, &answer);
        let insert = move |c: &mut AnyConnection| {
            repo::insert(c, &mailing, counted)?;
            Ok(mailing)
        };
        let made = self.db.write(move |c| idempotency::once(c, claim.as_ref(), now, answer, insert)).await?;
        failpoint::reach("create-after-commit");
        if begins {
            self.wakeup.mailing_changed()
        } else {
            self.wakeup.pending_changed()
        }
        Ok(made)
    }

    /// Validates a new mailing without creating it, and returns a preview.
    ///
    /// # Errors
    /// As [`Mailings::create`].
    pub async fn rehearse(&self, new: MailingDraft) -> Result<MailingPreview> {
        let now = self.clock.now();
        let window = complete_window(&new, now)?;
        self.check(&new, &window, now).await?;
        self.preview(new).await
    }

    /// Checks that a channel can send.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the reason why it cannot.
    fn check_channel(&self, channel: ChannelKind) -> Result<()> {
        match self.missing.get(&channel) {
            Some(why) => Err(Error::invalid("channel", why)),
            None => Ok(()),
        }
    }

    /// Validates a new mailing, and counts its audience if it starts at once.
    async fn check(&self, new: &MailingDraft, window: &Window, now: Timestamp) -> Result<CheckedMailing> {
        window.check(now)?;
        let begins = window.starts_at <= now;
        self.check_channel(new.channel)?;
        let (content, copied) = self.content(new.template.as_deref(), new.texts(), new.channel).await?;
        let (filter, is_copied) = (new.filter.clone(), copied.is_some());
        let said = Arc::clone(&content);
        self.db.read(move |c| check_placeholders(c, &said, is_copied)).await?;
        let (links, channel) = (self.links(new.group.as_deref()), new.channel);
        let rehearsal = TextCheck { filter: filter.clone(), channel, content, is_copied, links };
        rehearsal.check(&self.db, self.templates.pool()).await?;
        let measure = move |c: &mut AnyConnection| {
            let counted = begins.then(|| audience::measure(c, &filter)).transpose()?;
            Ok((counted, nobodys_tags(c, &filter)?))
        };
        let (counted, warnings) = self.db.read(measure).await?;
        Ok(CheckedMailing { counted, copied, warnings })
    }

    /// Returns the parsed texts: the template's texts with a copy to store, or without a template the mailing's own.
    async fn content(
        &self,
        template: Option<&str>,
        own: Texts,
        channel: ChannelKind,
    ) -> Result<(Arc<Variants>, Option<CopiedTemplate>)> {
        match template {
            Some(name) => {
                let variants = self.templates.named("template", name, channel).await?;
                let copied = CopiedTemplate::of(name, &variants);
                Ok((variants, Some(copied)))
            }
            None => {
                let alone = Variant::parse(None, 0, channel, own)?;
                Ok((Arc::new(Variants::new(alone, Vec::new())), None))
            }
        }
    }

    /// Returns one mailing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: MailingId) -> Result<Mailing> {
        self.db.read(move |c| repo::get(c, id)).await
    }

    /// Returns one page of mailings in the order of creation.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list(
        &self,
        status: Option<MailingStatus>,
        limit: i64,
        after: Option<MailingId>,
    ) -> Result<Page<Mailing>> {
        self.db.read(move |c| repo::list(c, status, limit, after)).await
    }

    /// Applies a change that the mailing's status allows.
    ///
    /// # Errors
    /// As [`Mailing::apply`], and [`Error::NotFound`].
    pub async fn patch(&self, id: MailingId, change: MailingChange) -> Result<Mailing> {
        let now = self.clock.now();
        change.channel.map_or(Ok(()), |channel| self.check_channel(channel))?;
        let mut copied = None;
        if let Some(name) = &change.template {
            let channel = match change.channel {
                Some(channel) => channel,
                // if the channel changes meanwhile, the texts are validated against the new one below
                None => self.get(id).await?.channel,
            };
            let variants = self.templates.named("template", name, channel).await?;
            copied = Some(CopiedTemplate::of(name, &variants));
        }
        if change.touches_what_is_sent() {
            self.rehearse_change(id, (change.clone(), copied.clone()), now).await?;
        }
        let changed = self
            .db
            .write(move |c| {
                repo::lock(c, id)?;
                let mut mailing = repo::get(c, id)?;
                mailing.apply(change, copied, now)?;
                if mailing.started_at.is_none() {
                    check_placeholders(c, &mailing.content()?, mailing.template.is_some())?;
                }
                repo::update(c, &mailing)?;
                Ok(mailing)
            })
            .await?;
        self.wakeup.mailing_changed();
        self.wakeup.pending_changed();
        Ok(changed)
    }

    /// Validates changed texts before they are stored, because filling them takes too long for a transaction.
    async fn rehearse_change(
        &self,
        id: MailingId,
        (change, copied): (MailingChange, Option<CopiedTemplate>),
        now: Timestamp,
    ) -> Result<()> {
        let mut mailing = self.get(id).await?;
        mailing.apply(change, copied, now)?;
        let (content, is_copied) = (Arc::new(mailing.content()?), mailing.template.is_some());
        let said = Arc::clone(&content);
        self.db.read(move |c| check_placeholders(c, &said, is_copied)).await?;
        let links = self.links(mailing.group.as_deref());
        let (filter, channel) = (mailing.filter, mailing.channel);
        let rehearsal = TextCheck { filter, channel, content, is_copied, links };
        rehearsal.check(&self.db, self.templates.pool()).await
    }

    fn links(&self, group: Option<&str>) -> MailingLinks {
        MailingLinks { make: self.templates.unsubscribe_url().cloned(), group: group.map(str::to_owned) }
    }

    /// Deletes a mailing that has not started. A started mailing cannot be deleted.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it has started, [`Error::NotFound`].
    pub async fn delete(&self, id: MailingId) -> Result<()> {
        self.db
            .write(move |c| {
                repo::lock(c, id)?;
                let mailing = repo::get(c, id)?;
                let over = matches!(mailing.status, MailingStatus::Finished | MailingStatus::Cancelled);
                if over {
                    return Err(Error::Conflict(format!("mailing {id} is {} and read-only", mailing.status)));
                }
                if mailing.started_at.is_some() {
                    return Err(Error::Conflict(format!("mailing {id} has started; cancel it instead")));
                }
                repo::delete(c, id)
            })
            .await
    }

    /// Pauses a mailing: no message is started until it is resumed.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is neither pending nor running, [`Error::NotFound`].
    pub async fn pause(&self, id: MailingId) -> Result<Mailing> {
        self.change_status(id, "paused", |mailing| match mailing.status {
            MailingStatus::Pending | MailingStatus::Running => Some(MailingStatus::Paused),
            MailingStatus::Paused | MailingStatus::Finished | MailingStatus::Cancelled => None,
        })
        .await
    }

    /// Resumes a paused mailing.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is not paused, [`Error::NotFound`].
    pub async fn resume(&self, id: MailingId) -> Result<Mailing> {
        self.change_status(id, "resumed", |mailing| match (mailing.status, mailing.started_at) {
            (MailingStatus::Paused, Some(_)) => Some(MailingStatus::Running),
            (MailingStatus::Paused, None) => Some(MailingStatus::Pending),
            (
                MailingStatus::Pending
                | MailingStatus::Running
                | MailingStatus::Finished
                | MailingStatus::Cancelled,
                _,
            ) => None,
        })
        .await
    }

    /// Cancels a mailing for good. The attempts in flight are finished, and the other messages are cancelled in the
    /// background.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is finished or cancelled, [`Error::NotFound`].
    pub async fn cancel(&self, id: MailingId) -> Result<Mailing> {
        self.change_status(id, "cancelled", |mailing| match mailing.status {
            MailingStatus::Finished | MailingStatus::Cancelled => None,
            MailingStatus::Pending | MailingStatus::Running | MailingStatus::Paused => {
                Some(MailingStatus::Cancelled)
            }
        })
        .await
    }

    async fn change_status(
        &self,
        id: MailingId,
        verb: &'static str,
        next: impl FnOnce(&Mailing) -> Option<MailingStatus> + Send + 'static,
    ) -> Result<Mailing> {
        let now = self.clock.now();
        let changed = self
            .db
            .write(move |c| {
                repo::lock(c, id)?;
                let mailing = repo::get(c, id)?;
                let Some(status) = next(&mailing) else {
                    return Err(Error::Conflict(format!(
                        "mailing {id} is {} and cannot be {verb}",
                        mailing.status
                    )));
                };
                if status == MailingStatus::Cancelled && mailing.started_at.is_none() {
                    repo::cancel_unstarted(c, id, now)?;
                } else {
                    repo::set_status(c, id, status, now)?;
                }
                repo::get(c, id)
            })
            .await?;
        if matches!(changed.status, MailingStatus::Paused | MailingStatus::Cancelled) {
            self.wakeup.mailing_stopped(id, changed.status);
        }
        self.wakeup.mailing_changed();
        self.wakeup.pending_changed();
        Ok(changed)
    }

    /// Returns the statistics of one mailing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn stats(&self, id: MailingId) -> Result<MailingStats> {
        let mailing = self.get(id).await?;
        Ok(MailingStats {
            mailing_id: id,
            status: mailing.status,
            counts: mailing.counts,
            started_at: mailing.started_at,
            finished_at: mailing.finished_at,
        })
    }

    /// Returns the statistics of all mailings.
    ///
    /// # Errors
    /// Database errors.
    pub async fn overview(&self) -> Result<MailingOverview> {
        self.db.read(repo::overview).await
    }

    /// Returns a preview of a mailing without creating it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid window or text.
    pub async fn preview(&self, draft: MailingDraft) -> Result<MailingPreview> {
        let now = self.clock.now();
        let window = draft.window(now)?;
        self.check_channel(draft.channel)?;
        let is_copied = draft.template.is_some();
        let content = match draft.text.is_some() || is_copied {
            true => Some(self.content(draft.template.as_deref(), draft.texts(), draft.channel).await?.0),
            false => None,
        };
        let (channel, filter, own_rate) = (draft.channel, draft.filter, draft.rate_per_second);
        let said = content.clone();
        let (recipients, first, warnings) = self
            .db
            .read(move |c| {
                if let Some(content) = &said {
                    check_placeholders(c, content, is_copied)?;
                }
                let counted = audience::measure(c, &filter)?;
                let wanted =
                    rehearsal::SAMPLES.min(usize::try_from(counted.total).unwrap_or(rehearsal::SAMPLES));
                let first = rehearsal::first(c, &filter, counted.upper_bound, channel, wanted)?;
                Ok((counted.total, first, nobodys_tags(c, &filter)?))
            })
            .await?;
        let links = self.links(None);
        let first =
            first.into_iter().map(|client| (content.clone(), channel, links.clone(), client)).collect();
        let sample = self.templates.pool().map(first, rehearsal::sample).await?;
        let rates = [self.rates.rate(channel), own_rate];
        let rate_per_second = rates.into_iter().flatten().min_by(f64::total_cmp);
        let estimated_seconds = rate_per_second.map(|rate| recipients as f64 / rate);
        let room = window.map(|window| window.ends_at.since(window.starts_at.max(now)).as_secs_f64());
        let fits_window = estimated_seconds.zip(room).map(|(needed, room)| needed <= room);
        Ok(MailingPreview { recipients, sample, rate_per_second, estimated_seconds, fits_window, warnings })
    }
}

/// Returns the window of a new mailing, without checking it.
///
/// # Errors
/// [`Error::Invalid`] if it has no end.
fn complete_window(new: &MailingDraft, now: Timestamp) -> Result<Window> {
    let ends_at = new.ends_at.ok_or_else(|| Error::invalid("ends_at", "is required"))?;
    Ok(Window { starts_at: new.starts_at.unwrap_or(now), ends_at })
}

/// The results of validating a new mailing.
struct CheckedMailing {
    /// Its audience, if it starts at once.
    counted: Option<Audience>,
    /// Its texts, if they come from a template.
    copied: Option<CopiedTemplate>,
    warnings: Vec<FieldError>,
}

/// Returns a warning for each tag that no client has: it may be mistyped, and the mailing would have no recipients.
fn nobodys_tags(c: &mut AnyConnection, filter: &AudienceFilter) -> Result<Vec<FieldError>> {
    let unknown = audience::nobodys_tags(c, &filter.tag)?;
    let warning = |tag: String| FieldError::new("filter.tag", format!("no client has the tag `{tag}`"));
    Ok(unknown.into_iter().map(warning).collect())
}

/// Refuses a placeholder that is neither a field nor an attribute of any client. The error names the text's field, or
/// `template` if the text comes from a template.
fn check_placeholders(c: &mut AnyConnection, content: &Variants, is_copied: bool) -> Result<()> {
    let is_own = |name: &str| FIELDS.contains(&name) || name == UNSUBSCRIBE_URL;
    let is_foreign = |(_, name): &(&str, &String)| !is_own(name);
    let named = content.all().flat_map(|variant| variant.content.placeholders());
    let foreign: Vec<(&str, &String)> = named.filter(is_foreign).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let known = crate::clients::repo::attribute_names(c)?;
    match foreign.into_iter().find(|(_, name)| !known.contains(name)) {
        None => Ok(()),
        Some((field, unknown)) => {
            let names: Vec<&str> =
                FIELDS.iter().copied().chain(known.iter().map(String::as_str)).take(50).collect();
            let names = names.join(", ");
            let reason = format!("no client has the field or attribute `{unknown}`; known names: {names}");
            Err(Error::invalid(if is_copied { "template" } else { field }, reason))
        }
    }
}
