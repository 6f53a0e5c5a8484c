//! Response bodies of mailings.

use serde::Serialize;
use utoipa::ToSchema;

use super::filter::AudienceFilter;
use super::model::{
    Mailing, MailingCounts, MailingOverview, MailingPreview, MailingProgress, MailingStats, MailingStatus,
    MailingVariant, PreviewSample,
};
use crate::db::types::{ClientId, MailingId, Timestamp};
use crate::error::FieldError;
use crate::kinds::{ChannelKind, Priority};
use crate::locale::Locale;
use crate::messages::model::Counts;
use crate::paging::{PageItem, json_length};
use crate::segments::Segments;

/// A validated filter: its lists are sorted and have no duplicates.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AudienceFilter)]
pub struct AudienceFilterView<'m> {
    /// Selects clients with one of these operator codes; empty for any.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    mobile_operator_code: &'m [String],
    /// Selects clients with one of these tags, compared case-insensitively; empty for any.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tag: &'m [String],
    /// Selects clients with an address on each of these channels.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<Reached>)]
    has: &'m [String],
}

impl<'m> From<&'m AudienceFilter> for AudienceFilterView<'m> {
    fn from(filter: &'m AudienceFilter) -> Self {
        let AudienceFilter { mobile_operator_code, tag, has } = filter;
        Self { mobile_operator_code, tag, has }
    }
}

/// A channel whose address a filter can require, as an OpenAPI schema.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// A phone number.
    Sms,
    /// An e-mail address.
    Email,
    /// A push token.
    Push,
}

/// A mailing: one text that is sent to each client of an audience within a window.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Mailing)]
pub struct MailingView<'m> {
    /// The mailing's id, assigned by the service.
    id: MailingId,
    /// The text, with placeholders.
    #[schema(example = "Dear {{ name }}, our shop in {{ city }} is open again.")]
    text: &'m str,
    /// The subject, with placeholders; null on `sms`.
    #[schema(example = "{{ name }}, we are open again")]
    subject: Option<&'m str>,
    /// The text as HTML, with placeholders whose values are escaped; null on all channels but `email`.
    html: Option<&'m str>,
    /// The template from which its texts were copied, when it was created or last given a template.
    #[schema(example = "order.shipped")]
    template: Option<&'m str>,
    /// The version of the template at that time.
    template_version: Option<i32>,
    /// The texts in the other languages of the template; clients with another language get the texts above.
    variants: Vec<MailingVariantView<'m>>,
    /// The filter that selects its audience.
    filter: AudienceFilterView<'m>,
    /// The channel.
    channel: ChannelKind,
    /// The priority, which selects the lane of its messages.
    priority: Priority,
    /// The status.
    status: MailingStatus,
    /// The start of the window.
    #[schema(value_type = String, format = DateTime)]
    starts_at: Timestamp,
    /// The end of the window; messages that are unsent by then expire.
    #[schema(value_type = String, format = DateTime)]
    ends_at: Timestamp,
    /// The mailing's own limit in messages per second; null if only the channel's limit applies.
    #[schema(example = 20.0)]
    rate_per_second: Option<f64>,
    /// The group that its recipients may opt out of, besides the channel.
    #[schema(example = "newsletter")]
    group: Option<&'m str>,
    /// True if recipients cannot opt out of it.
    transactional: bool,
    /// The time of its creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The time of its last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// The time at which sending began.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// The time at which its last message got its final status.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// The number of its messages in each status.
    counts: Counts,
}

impl<'m> From<&'m Mailing> for MailingView<'m> {
    fn from(mailing: &'m Mailing) -> Self {
        Self {
            id: mailing.id,
            text: &mailing.text,
            subject: mailing.subject.as_deref(),
            html: mailing.html.as_deref(),
            template: mailing.template.as_deref(),
            template_version: mailing.template_version,
            variants: mailing.variants.iter().map(MailingVariantView::from).collect(),
            filter: (&mailing.filter).into(),
            channel: mailing.channel,
            priority: mailing.priority,
            status: mailing.status,
            starts_at: mailing.starts_at,
            ends_at: mailing.ends_at,
            rate_per_second: mailing.rate_per_second,
            group: mailing.group.as_deref(),
            transactional: mailing.transactional,
            created_at: mailing.created_at,
            updated_at: mailing.updated_at,
            started_at: mailing.started_at,
            finished_at: mailing.finished_at,
            counts: mailing.counts,
        }
    }
}

impl PageItem for Mailing {
    fn length(&self) -> usize {
        json_length(&MailingView::from(self))
    }
}

/// The texts of a mailing in one language.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MailingVariant)]
pub struct MailingVariantView<'m> {
    /// The language.
    #[schema(value_type = Locale)]
    locale: &'m str,
    /// The version of the template in this language.
    version: i32,
    /// The subject.
    subject: Option<&'m str>,
    /// The text.
    text: &'m str,
    /// The text as HTML.
    html: Option<&'m str>,
}

impl<'m> From<&'m MailingVariant> for MailingVariantView<'m> {
    fn from(variant: &'m MailingVariant) -> Self {
        Self {
            locale: &variant.locale,
            version: variant.version,
            subject: variant.subject.as_deref(),
            text: &variant.text,
            html: variant.html.as_deref(),
        }
    }
}

/// Statistics of all mailings together.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Overview)]
pub struct OverviewView {
    /// The number of mailings in each status.
    mailings: MailingCountsView,
    /// The messages of all mailings.
    counts: Counts,
}

impl From<&MailingOverview> for OverviewView {
    fn from(overview: &MailingOverview) -> Self {
        Self { mailings: (&overview.mailings).into(), counts: overview.counts }
    }
}

/// The number of mailings in each status.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MailingCounts)]
pub struct MailingCountsView {
    /// All mailings.
    total: i64,
    /// Mailings that have not started.
    pending: i64,
    /// Mailings that are being sent.
    running: i64,
    /// Paused mailings.
    paused: i64,
    /// Finished mailings.
    finished: i64,
    /// Cancelled mailings.
    cancelled: i64,
}

impl From<&MailingCounts> for MailingCountsView {
    fn from(counts: &MailingCounts) -> Self {
        Self {
            total: counts.total,
            pending: counts.pending,
            running: counts.running,
            paused: counts.paused,
            finished: counts.finished,
            cancelled: counts.cancelled,
        }
    }
}

/// Statistics of one mailing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MailingStats)]
pub struct MailingStatsView {
    /// The mailing.
    mailing_id: MailingId,
    /// The status.
    status: MailingStatus,
    /// The number of its messages in each status.
    counts: Counts,
    /// The time at which sending began.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// The time at which its last message got its final status.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

impl From<&MailingStats> for MailingStatsView {
    fn from(stats: &MailingStats) -> Self {
        Self {
            mailing_id: stats.mailing_id,
            status: stats.status,
            counts: stats.counts,
            started_at: stats.started_at,
            finished_at: stats.finished_at,
        }
    }
}

/// One client of an audience, with the message that it would get.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sample)]
pub struct SampleView<'m> {
    /// The client.
    client_id: ClientId,
    /// The address of the message.
    #[schema(example = "79031234567")]
    recipient: &'m str,
    /// The text for this client, if a text was given and could be filled.
    text: Option<&'m str>,
    /// The subject for this client, under the same conditions.
    subject: Option<&'m str>,
    /// The HTML for this client, under the same conditions.
    html: Option<&'m str>,
    /// The segments by which the text is charged, on `sms`.
    #[schema(value_type = Option<Segments>)]
    segments: Option<&'m Segments>,
    /// The reason why this client would not get it: the texts cannot be filled, or the client has no address.
    error: Option<&'m str>,
}

impl<'m> From<&'m PreviewSample> for SampleView<'m> {
    fn from(sample: &'m PreviewSample) -> Self {
        Self {
            client_id: sample.client_id,
            recipient: &sample.recipient,
            text: sample.text.as_deref(),
            subject: sample.subject.as_deref(),
            html: sample.html.as_deref(),
            segments: sample.segments.as_ref(),
            error: sample.error.as_deref(),
        }
    }
}

/// The progress of a mailing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MailingProgress)]
pub struct MailingProgressView {
    /// The mailing.
    mailing_id: MailingId,
    /// The status.
    status: MailingStatus,
    /// The number of its messages in each status.
    counts: Counts,
}

impl From<&MailingProgress> for MailingProgressView {
    fn from(progress: &MailingProgress) -> Self {
        Self { mailing_id: progress.mailing_id, status: progress.status, counts: progress.counts }
    }
}

/// A preview of a mailing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Preview)]
pub struct PreviewView<'m> {
    /// The number of clients that match now.
    #[schema(example = 12)]
    recipients: i64,
    /// A few of the matching clients.
    sample: Vec<SampleView<'m>>,
    /// The expected rate in messages per second: the lower of the mailing's own limit and the channel's rate. A channel
    /// without a limit has an estimate from its concurrency and the provider's response times; null without data.
    rate_per_second: Option<f64>,
    /// The expected duration at that rate, in seconds.
    estimated_seconds: Option<f64>,
    /// True if the sending is expected to end within the window.
    fits_window: Option<bool>,
    /// Likely mistakes, such as a tag that no client has.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'m [FieldError],
}

impl<'m> From<&'m MailingPreview> for PreviewView<'m> {
    fn from(preview: &'m MailingPreview) -> Self {
        Self {
            recipients: preview.recipients,
            sample: preview.sample.iter().map(SampleView::from).collect(),
            rate_per_second: preview.rate_per_second,
            estimated_seconds: preview.estimated_seconds,
            fits_window: preview.fits_window,
            warnings: &preview.warnings,
        }
    }
}

/// A mailing that was just created.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedMailing<'m> {
    /// The mailing.
    #[serde(flatten)]
    mailing: MailingView<'m>,
    /// Likely mistakes, such as a tag that no client has.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'m [FieldError],
}

impl<'m> CreatedMailing<'m> {
    /// Creates the response to a new mailing.
    pub fn new(mailing: &'m Mailing, warnings: &'m [FieldError]) -> Self {
        Self { mailing: mailing.into(), warnings }
    }
}
