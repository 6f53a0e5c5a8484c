//! A mailing and the rules of its life.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::db::types::{ClientId, MailingId, Timestamp};
use crate::error::{Complaints, Error, FieldError, Result};
use crate::kinds::{ChannelKind, Priority, coded_enum};
use crate::locale::Locale;
use crate::mailings::filter::AudienceFilter;
use crate::messages::model::Counts;
use crate::segments::Segments;
use crate::templates::{Texts, Variant, Variants};

coded_enum! {
    /// Where a mailing is in its life.
    MailingStatus {
        /// Its start is still to come.
        Pending = 0 "pending",
        /// It is being sent.
        Running = 1 "running",
        /// Nothing is started until it is resumed; its window goes on.
        Paused = 2 "paused",
        /// Every message has its final state.
        Finished = 3 "finished",
        /// Stopped for good; what was not sent is cancelled.
        Cancelled = 4 "cancelled",
    }
}

/// When messages may go out: `[starts_at, ends_at)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first instant.
    pub starts_at: Timestamp,
    /// The first instant that is too late.
    pub ends_at: Timestamp,
}

impl Window {
    /// Whether a message may be started at `at`.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.starts_at <= at && at < self.ends_at
    }

    /// # Errors
    /// [`Error::Invalid`] for a window without length, or one that has closed by `now`.
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

/// A campaign.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Mailing {
    /// Given by the service.
    pub id: MailingId,
    /// What is sent, with placeholders.
    #[schema(example = "Dear {{ name }}, our shop in {{ city }} is open again.")]
    pub text: String,
    /// What stands above the text, with placeholders; null on `sms`.
    #[schema(example = "{{ name }}, we are open again")]
    pub subject: Option<String>,
    /// The text as HTML, with placeholders whose values are escaped; null on all channels but `email`.
    pub html: Option<String>,
    /// The template that its texts were copied from when it was made, or given another one.
    #[schema(example = "order.shipped")]
    pub template: Option<String>,
    /// Which version of the template that was.
    pub template_version: Option<i32>,
    /// What it says in the languages that the template has; all others get the texts above.
    pub variants: Vec<MailingVariant>,
    /// Who gets it.
    pub filter: AudienceFilter,
    /// How it goes out.
    pub channel: ChannelKind,
    /// Which lane its messages wait in.
    pub priority: Priority,
    /// Where it is in its life.
    pub status: MailingStatus,
    /// When sending begins.
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// When sending ends, whatever is left.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Timestamp,
    /// Messages a second, beside the channel's own limit; null for that alone.
    #[schema(example = 20.0)]
    pub rate_per_second: Option<f64>,
    /// What its recipients may opt out of, beside the channel.
    #[schema(example = "newsletter")]
    pub group: Option<String>,
    /// Whether nobody may opt out of it.
    pub transactional: bool,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When its sending began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When its last message came to its final state.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// What became of its messages.
    pub counts: Counts,
}

impl Mailing {
    /// What it says, in each language.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the field of a text that is none on its channel.
    pub fn content(&self) -> Result<Variants> {
        let texts = Texts { subject: self.subject.clone(), text: self.text.clone(), html: self.html.clone() };
        let base = Variant::parse(None, self.template_version.unwrap_or_default(), self.channel, texts)?;
        let others = self.variants.iter().map(|variant| variant.parse(self.channel));
        Ok(Variants::new(base, others.collect::<Result<_>>()?))
    }

    /// Its window.
    pub fn window(&self) -> Window {
        Window { starts_at: self.starts_at, ends_at: self.ends_at }
    }

    /// Takes a change, if its state allows it.
    ///
    /// # Errors
    /// [`Error::Conflict`] for what may not change any more, [`Error::Invalid`] for a window that is none.
    pub fn apply(&mut self, change: MailingChange, now: Timestamp) -> Result<()> {
        let id = self.id;
        match self.status {
            MailingStatus::Finished | MailingStatus::Cancelled => {
                return Err(Error::Conflict(format!("mailing {id} is {} and read-only", self.status)));
            }
            MailingStatus::Running | MailingStatus::Paused if self.started_at.is_some() => {
                if change.touches_what_is_sent() {
                    return Err(Error::Conflict(format!(
                        "mailing {id} has begun; only ends_at and rate_per_second may still change (pause or cancel it \
                         to stop it)"
                    )));
                }
                if self.ends_at <= now {
                    return Err(Error::Conflict(format!(
                        "the window of mailing {id} closed at {}",
                        self.ends_at
                    )));
                }
            }
            _ => {}
        }
        let is_partly_its_own = change.text.is_none() && change.copied.is_none() && self.template.is_some();
        for (field, is_there) in [("subject", change.subject.is_some()), ("html", change.html.is_some())] {
            if is_there && is_partly_its_own {
                let why = "comes from the template: give `text` as well, which takes the template's place";
                return Err(Error::invalid(field, why));
            }
        }
        if let Some(Copied { template, version, texts, variants }) = change.copied {
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

/// What a mailing says in one of its languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MailingVariant {
    /// The language.
    #[schema(value_type = Locale)]
    pub locale: String,
    /// Which version of the template in this language it is.
    pub version: i32,
    /// What stands above the text.
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

/// A template's texts, as they were when a mailing took them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The template's name.
    pub template: String,
    /// Which version of the one without a locale it is.
    pub version: i32,
    /// What that says.
    pub texts: Texts,
    /// Those with a locale.
    pub variants: Vec<MailingVariant>,
}

impl Copied {
    /// From the template of this name.
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

/// A checked new mailing.
#[derive(Debug, Clone)]
pub struct NewMailing {
    /// The template that says what is sent, in place of the texts.
    pub template: Option<String>,
    /// What is sent.
    pub text: String,
    /// What stands above it.
    pub subject: Option<String>,
    /// The same as HTML.
    pub html: Option<String>,
    /// Who gets it.
    pub filter: AudienceFilter,
    /// How.
    pub channel: ChannelKind,
    /// In which lane.
    pub priority: Priority,
    /// From when; now if absent.
    pub starts_at: Option<Timestamp>,
    /// Until when.
    pub ends_at: Timestamp,
    /// Messages a second, if the channel's limit is not enough.
    pub rate_per_second: Option<f64>,
    /// What its recipients may opt out of.
    pub group: Option<String>,
    /// Nobody may opt out of it, and quiet hours do not hold it back.
    pub is_transactional: bool,
}

/// What a patch changes.
#[derive(Debug, Clone, Default)]
pub struct MailingChange {
    /// The template that says what is sent, in place of the texts.
    pub template: Option<String>,
    /// Its texts, once they were read.
    pub copied: Option<Copied>,
    /// What is sent.
    pub text: Option<String>,
    /// What stands above it; `Some(None)` takes it away.
    pub subject: Option<Option<String>>,
    /// The same as HTML; `Some(None)` takes it away.
    pub html: Option<Option<String>>,
    /// Who gets it.
    pub filter: Option<AudienceFilter>,
    /// How.
    pub channel: Option<ChannelKind>,
    /// In which lane.
    pub priority: Option<Priority>,
    /// From when.
    pub starts_at: Option<Timestamp>,
    /// Until when.
    pub ends_at: Option<Timestamp>,
    /// Messages a second; `Some(None)` takes the limit away.
    pub rate_per_second: Option<Option<f64>>,
    /// What its recipients may opt out of; `Some(None)` takes it away.
    pub group: Option<Option<String>>,
    /// Whether nobody may opt out of it.
    pub transactional: Option<bool>,
}

impl MailingChange {
    /// Returns whether it changes more than the end and the rate, which may change to the last.
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

/// Who a mailing is for, as counted at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audience {
    /// How many clients match.
    pub total: i64,
    /// No later client belongs to it.
    pub upper_bound: Option<ClientId>,
}

/// All mailings together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Overview {
    /// How many mailings there are in each state.
    pub mailings: MailingCounts,
    /// The messages of all of them.
    pub counts: Counts,
}

/// How many mailings there are in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct MailingCounts {
    /// All of them.
    pub total: i64,
    /// Not begun.
    pub pending: i64,
    /// Being sent.
    pub running: i64,
    /// Held.
    pub paused: i64,
    /// Done.
    pub finished: i64,
    /// Stopped.
    pub cancelled: i64,
}

/// One mailing's books.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MailingStats {
    /// The mailing.
    pub mailing_id: MailingId,
    /// Where it is in its life.
    pub status: MailingStatus,
    /// What became of its messages.
    pub counts: Counts,
    /// When its sending began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When its last message came to its final state.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// One client of an audience, with the text that it would get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sample {
    /// The client.
    pub client_id: ClientId,
    /// Where the message would go.
    #[schema(example = "79031234567")]
    pub recipient: String,
    /// The text for this client, when one was given and can be filled.
    pub text: Option<String>,
    /// The subject likewise.
    pub subject: Option<String>,
    /// The HTML likewise.
    pub html: Option<String>,
    /// What the text is charged as, on `sms`.
    pub segments: Option<Segments>,
    /// Why this client would not get it: the texts cannot be filled, or there is no address.
    pub error: Option<String>,
}

/// Where a mailing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = MailingProgress)]
pub struct Progress {
    /// Which mailing.
    pub mailing_id: MailingId,
    /// How it goes out.
    #[serde(skip)]
    pub channel: ChannelKind,
    /// Where it is in its life.
    pub status: MailingStatus,
    /// What became of its messages.
    pub counts: Counts,
    /// Whether that changes no more.
    #[serde(skip)]
    pub settled: bool,
}

/// What a mailing would be.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Preview {
    /// How many clients match now.
    #[schema(example = 12)]
    pub recipients: i64,
    /// A few of them.
    pub sample: Vec<Sample>,
    /// Messages a second that the channel will send: its limit, or without one what its concurrency and the
    /// provider's answers so far allow; null when there were none yet.
    pub rate_per_second: Option<f64>,
    /// Seconds that the sending will take at that rate.
    pub estimated_seconds: Option<f64>,
    /// Whether that fits between the start and the end.
    pub fits_window: Option<bool>,
    /// Likely mistakes, such as a tag that no client has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<FieldError>,
}

/// A mailing that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedMailing<'m> {
    /// The mailing.
    #[serde(flatten)]
    pub mailing: &'m Mailing,
    /// Likely mistakes, such as a tag that no client has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
                mailing(status, started).apply(end.clone(), now).is_ok(),
                end_ok,
                "end of a {status} one"
            );
            assert_eq!(
                mailing(status, started).apply(rate.clone(), now).is_ok(),
                end_ok,
                "rate of a {status} one"
            );
            assert_eq!(
                mailing(status, started).apply(text.clone(), now).is_ok(),
                text_ok,
                "text of a {status} one"
            );
        }
    }

    #[test]
    fn a_window_that_has_closed_is_not_opened_again() {
        let mut running = mailing(MailingStatus::Running, true);
        let late = running.ends_at.plus(Duration::from_secs(1));
        let change =
            MailingChange { ends_at: Some(late.plus(Duration::from_secs(60))), ..Default::default() };
        assert!(matches!(running.apply(change, late), Err(Error::Conflict(_))));
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
