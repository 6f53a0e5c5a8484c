//! Mailings and the rules of their life cycle.

use serde::{Deserialize, Serialize};

use crate::db::types::{ClientId, MailingId, Timestamp};
use crate::error::{Complaints, Error, FieldError, Result};
use crate::kinds::{ChannelKind, Priority, coded_enum};
use crate::mailings::filter::AudienceFilter;
use crate::messages::model::Counts;
use crate::segments::Segments;
use crate::templates::{Texts, Variant, Variants};

coded_enum! {
    /// The status of a mailing.
    MailingStatus {
        /// Its start is in the future.
        Pending = 0 "pending",
        /// It is being sent.
        Running = 1 "running",
        /// No message is started until it is resumed; its window goes on.
        Paused = 2 "paused",
        /// Every message has its final status.
        Finished = 3 "finished",
        /// It was stopped for good; the unsent messages are cancelled.
        Cancelled = 4 "cancelled",
    }
}

/// The window in which messages may be sent: `[starts_at, ends_at)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first instant.
    pub starts_at: Timestamp,
    /// The first instant that is too late.
    pub ends_at: Timestamp,
}

impl Window {
    /// Returns true if a message may be started at `at`.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.starts_at <= at && at < self.ends_at
    }

    /// Validates the window.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty window, or a window that has closed by `now`.
    pub fn check(&self, now: Timestamp) -> Result<()> {
        let mut wrong = Complaints::default();
        if self.ends_at <= self.starts_at {
            wrong.add("ends_at", format!("must be after starts_at ({})", self.starts_at));
        } else if self.ends_at <= now {
            wrong.add("ends_at", format!("must be in the future; it is {now} now"));
        }
        wrong.finish()
    }
}

/// A mailing: one text that is sent to each client of an audience within a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Mailing {
    /// The mailing's id, assigned by the service.
    pub id: MailingId,
    /// The text, with placeholders.
    pub text: String,
    /// The subject, with placeholders; null on `sms`.
    pub subject: Option<String>,
    /// The text as HTML, with placeholders whose values are escaped; null on all channels but `email`.
    pub html: Option<String>,
    /// The template from which its texts were copied, when it was created or last given a template.
    pub template: Option<String>,
    /// The version of the template at that time.
    pub template_version: Option<i32>,
    /// The texts in the other languages of the template; clients with another language get the texts above.
    pub variants: Vec<MailingVariant>,
    /// The filter that selects its audience.
    pub filter: AudienceFilter,
    /// The channel.
    pub channel: ChannelKind,
    /// The priority, which selects the lane of its messages.
    pub priority: Priority,
    /// The status.
    pub status: MailingStatus,
    /// The start of the window.
    pub starts_at: Timestamp,
    /// The end of the window; messages that are unsent by then expire.
    pub ends_at: Timestamp,
    /// The mailing's own limit in messages per second; null if only the channel's limit applies.
    pub rate_per_second: Option<f64>,
    /// The group that its recipients may opt out of, besides the channel.
    pub group: Option<String>,
    /// True if recipients cannot opt out of it.
    pub transactional: bool,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of its last change.
    pub updated_at: Timestamp,
    /// The time at which sending began.
    pub started_at: Option<Timestamp>,
    /// The time at which its last message got its final status.
    pub finished_at: Option<Timestamp>,
    /// The number of its messages in each status.
    pub counts: Counts,
}

impl Mailing {
    /// Parses its texts in all languages.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field of a text that is not valid on its channel.
    pub fn content(&self) -> Result<Variants> {
        let texts = Texts { subject: self.subject.clone(), text: self.text.clone(), html: self.html.clone() };
        let base = Variant::parse(None, self.template_version.unwrap_or_default(), self.channel, texts)?;
        let others = self.variants.iter().map(|variant| variant.parse(self.channel));
        Ok(Variants::new(base, others.collect::<Result<_>>()?))
    }

    /// Returns its window.
    pub fn window(&self) -> Window {
        Window { starts_at: self.starts_at, ends_at: self.ends_at }
    }

    /// Applies a change, if the status allows it. `copied` has the texts of the template that the change names.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a change that the status does not allow, [`Error::Invalid`] for an invalid window.
    pub fn apply(
        &mut self,
        change: MailingChange,
        copied: Option<CopiedTemplate>,
        now: Timestamp,
    ) -> Result<()> {
        let id = self.id;
        match self.status {
            MailingStatus::Finished | MailingStatus::Cancelled => {
                return Err(Error::Conflict(format!("mailing {id} is {} and read-only", self.status)));
            }
            MailingStatus::Running | MailingStatus::Paused if self.started_at.is_some() => {
                if change.touches_what_is_sent() {
                    return Err(Error::Conflict(format!(
                        "mailing {id} has started; only ends_at and rate_per_second can still be changed (pause or \
                         cancel it to stop it)"
                    )));
                }
                if self.ends_at <= now {
                    return Err(Error::Conflict(format!(
                        "the window of mailing {id} closed at {}",
                        self.ends_at
                    )));
                }
            }
            MailingStatus::Pending | MailingStatus::Running | MailingStatus::Paused => {}
        }
        let is_partly_its_own = change.text.is_none() && copied.is_none() && self.template.is_some();
        for (field, is_there) in [("subject", change.subject.is_some()), ("html", change.html.is_some())] {
            if is_there && is_partly_its_own {
                let why = "comes from the template: set `text` too, which replaces the template";
                return Err(Error::invalid(field, why));
            }
        }
        if let Some(CopiedTemplate { template, version, texts, variants }) = copied {
            (self.template, self.template_version, self.variants) = (Some(template), Some(version), variants);
            (self.subject, self.text, self.html) = (texts.subject, texts.text, texts.html);
        } else {
            if change.text.is_some() {
                (self.template, self.template_version, self.variants) = (None, None, Vec::new());
            }
            self.text = change.text.unwrap_or_else(|| std::mem::take(&mut self.text));
            self.subject = change.subject.unwrap_or_else(|| self.subject.take());
            self.html = change.html.unwrap_or_else(|| self.html.take());
        }
        self.filter = change.filter.unwrap_or_else(|| std::mem::take(&mut self.filter));
        self.channel = change.channel.unwrap_or(self.channel);
        self.priority = change.priority.unwrap_or(self.priority);
        self.starts_at = change.starts_at.unwrap_or(self.starts_at);
        self.ends_at = change.ends_at.unwrap_or(self.ends_at);
        self.rate_per_second = change.rate_per_second.unwrap_or(self.rate_per_second);
        self.group = change.group.unwrap_or_else(|| self.group.take());
        self.transactional = change.transactional.unwrap_or(self.transactional);
        self.updated_at = now;
        self.window().check(now)
    }
}

/// The texts of a mailing in one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailingVariant {
    /// The language.
    pub locale: String,
    /// The version of the template in this language.
    pub version: i32,
    /// The subject.
    pub subject: Option<String>,
    /// The text.
    pub text: String,
    /// The text as HTML.
    pub html: Option<String>,
}

impl MailingVariant {
    fn parse(&self, channel: ChannelKind) -> Result<Variant> {
        let texts = Texts { subject: self.subject.clone(), text: self.text.clone(), html: self.html.clone() };
        let parsed = Variant::parse(Some(self.locale.clone()), self.version, channel, texts);
        parsed.map_err(|error| match error {
            Error::Invalid(fields) => {
                let of_this = |f: FieldError| {
                    FieldError::new(format!("variants.{}.{}", self.locale, f.field), f.reason)
                };
                Error::Invalid(fields.into_iter().map(of_this).collect())
            }
            other => other,
        })
    }
}

/// The texts of a template, copied into a mailing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedTemplate {
    /// The template's name.
    pub template: String,
    /// The version of the variant without a locale.
    pub version: i32,
    /// The texts of the variant without a locale.
    pub texts: Texts,
    /// The variants with a locale.
    pub variants: Vec<MailingVariant>,
}

impl CopiedTemplate {
    /// Copies the texts of the template with this name.
    pub fn of(name: &str, variants: &Variants) -> Self {
        let others = variants.others().iter().filter_map(|variant| {
            let Texts { subject, text, html } = variant.texts.clone();
            let locale = variant.locale.clone()?;
            Some(MailingVariant { locale, version: variant.version, subject, text, html })
        });
        let base = variants.base();
        Self {
            template: name.to_owned(),
            version: base.version,
            texts: base.texts.clone(),
            variants: others.collect(),
        }
    }
}

/// A validated mailing that is to be created or previewed.
#[derive(Debug, Clone)]
pub struct MailingDraft {
    /// The template, instead of the texts.
    pub template: Option<String>,
    /// The text; a new mailing without a template has one.
    pub text: Option<String>,
    /// The subject.
    pub subject: Option<String>,
    /// The text as HTML.
    pub html: Option<String>,
    /// The filter that selects its audience.
    pub filter: AudienceFilter,
    /// The channel.
    pub channel: ChannelKind,
    /// The priority.
    pub priority: Priority,
    /// The start of the window; now if absent.
    pub starts_at: Option<Timestamp>,
    /// The end of the window, which only a preview may lack.
    pub ends_at: Option<Timestamp>,
    /// The mailing's own limit in messages per second.
    pub rate_per_second: Option<f64>,
    /// The group that its recipients may opt out of.
    pub group: Option<String>,
    /// True if recipients cannot opt out of it and quiet hours do not defer it.
    pub is_transactional: bool,
}

impl MailingDraft {
    /// Returns its window, if its end is known. Without a start it begins `now`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty window, or a window that has closed.
    pub fn window(&self, now: Timestamp) -> Result<Option<Window>> {
        let starts_at = self.starts_at.unwrap_or(now);
        let window = self.ends_at.map(|ends_at| Window { starts_at, ends_at });
        window.map_or(Ok(()), |window| window.check(now))?;
        Ok(window)
    }

    /// Returns its own texts.
    pub fn texts(&self) -> Texts {
        let text = self.text.clone().unwrap_or_default();
        Texts { subject: self.subject.clone(), text, html: self.html.clone() }
    }
}

/// The changes of a patch.
#[derive(Debug, Clone, Default)]
pub struct MailingChange {
    /// The template, instead of the texts.
    pub template: Option<String>,
    /// The text.
    pub text: Option<String>,
    /// The subject; `Some(None)` removes it.
    pub subject: Option<Option<String>>,
    /// The text as HTML; `Some(None)` removes it.
    pub html: Option<Option<String>>,
    /// The filter that selects its audience.
    pub filter: Option<AudienceFilter>,
    /// The channel.
    pub channel: Option<ChannelKind>,
    /// The priority.
    pub priority: Option<Priority>,
    /// The start of the window.
    pub starts_at: Option<Timestamp>,
    /// The end of the window.
    pub ends_at: Option<Timestamp>,
    /// The mailing's own limit in messages per second; `Some(None)` removes it.
    pub rate_per_second: Option<Option<f64>>,
    /// The group that its recipients may opt out of; `Some(None)` removes it.
    pub group: Option<Option<String>>,
    /// True if recipients cannot opt out of it.
    pub transactional: Option<bool>,
}

impl MailingChange {
    /// Returns true if it changes more than the end and the rate, which may change until the mailing is finished.
    pub fn touches_what_is_sent(&self) -> bool {
        self.template.is_some()
            || self.text.is_some()
            || self.subject.is_some()
            || self.html.is_some()
            || self.filter.is_some()
            || self.channel.is_some()
            || self.priority.is_some()
            || self.starts_at.is_some()
            || self.group.is_some()
            || self.transactional.is_some()
    }
}

/// The audience of a mailing, counted at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audience {
    /// The number of matching clients.
    pub total: i64,
    /// The last client that can belong to it.
    pub upper_bound: Option<ClientId>,
}

/// Statistics of all mailings together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailingOverview {
    /// The number of mailings in each status.
    pub mailings: MailingCounts,
    /// The messages of all mailings.
    pub counts: Counts,
}

/// The number of mailings in each status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailingCounts {
    /// All mailings.
    pub total: i64,
    /// Mailings that have not started.
    pub pending: i64,
    /// Mailings that are being sent.
    pub running: i64,
    /// Paused mailings.
    pub paused: i64,
    /// Finished mailings.
    pub finished: i64,
    /// Cancelled mailings.
    pub cancelled: i64,
}

/// Statistics of one mailing.
#[derive(Debug, Clone, PartialEq)]
pub struct MailingStats {
    /// The mailing.
    pub mailing_id: MailingId,
    /// The status.
    pub status: MailingStatus,
    /// The number of its messages in each status.
    pub counts: Counts,
    /// The time at which sending began.
    pub started_at: Option<Timestamp>,
    /// The time at which its last message got its final status.
    pub finished_at: Option<Timestamp>,
}

/// One client of an audience, with the message that it would get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewSample {
    /// The client.
    pub client_id: ClientId,
    /// The address of the message.
    pub recipient: String,
    /// The text for this client, if a text was given and could be filled.
    pub text: Option<String>,
    /// The subject for this client, under the same conditions.
    pub subject: Option<String>,
    /// The HTML for this client, under the same conditions.
    pub html: Option<String>,
    /// The segments by which the text is charged, on `sms`.
    pub segments: Option<Segments>,
    /// The reason why this client would not get it: the texts cannot be filled, or the client has no address.
    pub error: Option<String>,
}

/// The progress of a mailing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailingProgress {
    /// The mailing.
    pub mailing_id: MailingId,
    /// The channel.
    pub channel: ChannelKind,
    /// The status.
    pub status: MailingStatus,
    /// The number of its messages in each status.
    pub counts: Counts,
    /// True if the counts are final.
    pub settled: bool,
}

/// A preview of a mailing.
#[derive(Debug, Clone, PartialEq)]
pub struct MailingPreview {
    /// The number of clients that match now.
    pub recipients: i64,
    /// A few of the matching clients.
    pub sample: Vec<PreviewSample>,
    /// The expected rate in messages per second: the lower of the mailing's own limit and the channel's rate. A channel
    /// without a limit has an estimate from its concurrency and the provider's response times; null without data.
    pub rate_per_second: Option<f64>,
    /// The expected duration at that rate, in seconds.
    pub estimated_seconds: Option<f64>,
    /// True if the sending is expected to end within the window.
    pub fits_window: Option<bool>,
    /// Likely mistakes, such as a tag that no client has.
    pub warnings: Vec<FieldError>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn mailing(status: MailingStatus, started: bool) -> Mailing {
        let at = Timestamp::from_micros(1_000_000_000);
        Mailing {
            id: MailingId::new(),
            text: "hello".into(),
            subject: None,
            html: None,
            template: None,
            template_version: None,
            variants: Vec::new(),
            filter: AudienceFilter::default(),
            channel: ChannelKind::Sms,
            priority: Priority::Normal,
            status,
            starts_at: at,
            ends_at: at.plus(Duration::from_secs(60)),
            created_at: at,
            updated_at: at,
            started_at: started.then_some(at),
            finished_at: None,
            rate_per_second: None,
            group: None,
            transactional: false,
            counts: Counts::default(),
        }
    }

    #[test]
    fn only_the_end_and_the_rate_may_change_once_it_runs_and_nothing_when_it_is_over() {
        let now = Timestamp::from_micros(1_001_000_000);
        let end = MailingChange { ends_at: Some(now.plus(Duration::from_secs(9))), ..Default::default() };
        let rate = MailingChange { rate_per_second: Some(Some(5.0)), ..Default::default() };
        let text = MailingChange { text: Some("other".into()), ..Default::default() };
        use MailingStatus::{Cancelled, Finished, Paused, Pending, Running};
        for (status, started, end_ok, text_ok) in [
            (Pending, false, true, true),
            (Paused, false, true, true),
            (Running, true, true, false),
            (Paused, true, true, false),
            (Finished, true, false, false),
            (Cancelled, false, false, false),
        ] {
            assert_eq!(
                mailing(status, started).apply(end.clone(), None, now).is_ok(),
                end_ok,
                "end of a {status} mailing"
            );
            assert_eq!(
                mailing(status, started).apply(rate.clone(), None, now).is_ok(),
                end_ok,
                "rate of a {status} mailing"
            );
            assert_eq!(
                mailing(status, started).apply(text.clone(), None, now).is_ok(),
                text_ok,
                "text of a {status} mailing"
            );
        }
    }

    #[test]
    fn a_window_that_has_closed_is_not_opened_again() {
        let mut running = mailing(MailingStatus::Running, true);
        let late = running.ends_at.plus(Duration::from_secs(1));
        let change =
            MailingChange { ends_at: Some(late.plus(Duration::from_secs(60))), ..Default::default() };
        assert!(matches!(running.apply(change, None, late), Err(Error::Conflict(_))));
    }

    proptest! {
        #[test]
        fn a_window_holds_its_start_and_not_its_end(start in 0i64..1_000_000, length in 1i64..1_000_000, at in 0i64..3_000_000) {
            let window = Window {
                starts_at: Timestamp::from_micros(start),
                ends_at: Timestamp::from_micros(start + length),
            };
            prop_assert!(window.contains(window.starts_at) && !window.contains(window.ends_at));
            let inside = at >= start && at < start + length;
            prop_assert_eq!(window.contains(Timestamp::from_micros(at)), inside);
        }
    }
}
