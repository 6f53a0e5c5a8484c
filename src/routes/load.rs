//! Loads routes and their templates from a file: `fanfare routes load FILE`.

use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

use super::handler::DeliveryDraft;
use super::model::{NewDelivery, RouteChanges};
use super::usecase::{PutResult, Routes};
use crate::error::{Error, FieldError, Result};
use crate::idempotency::{IdempotentResponse, Mode};
use crate::kinds::ChannelKind;
use crate::locale::Locale;
use crate::paging;
use crate::templates::Templates;
use crate::templates::content::Texts;
use crate::templates::model::{NewTemplate, StoredTemplate, TemplateChange, TemplateListFilter};
use crate::templates::views::TemplateView;

/// The content of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    /// Templates, in the form of the API.
    #[serde(default)]
    templates: Vec<TemplateEntry>,
    /// Routes, in the form of the API.
    #[serde(default)]
    routes: Vec<RouteEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateEntry {
    name: String,
    #[serde(deserialize_with = "to_people")]
    channel: ChannelKind,
    locale: Option<String>,
    subject: Option<String>,
    text: String,
    html: Option<String>,
}

fn to_people<'de, D: serde::Deserializer<'de>>(reader: D) -> std::result::Result<ChannelKind, D::Error> {
    ChannelKind::to_people(&String::deserialize(reader)?).map_err(serde::de::Error::custom)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteEntry {
    event: String,
    description: Option<String>,
    group: Option<String>,
    transactional: Option<bool>,
    enabled: Option<bool>,
    deliveries: Vec<DeliveryDraft>,
}

/// The options of a load.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Replaces existing entries that differ. By default existing entries stay.
    pub is_replacing: bool,
    /// Refuses a route whose channel has no provider, instead of skipping it.
    pub is_strict: bool,
}

/// The result of loading a file.
#[derive(Debug, Default)]
pub struct LoadedFile {
    /// The counts of templates.
    pub templates: LoadCounts,
    /// The counts of routes.
    pub routes: LoadCounts,
    /// The routes that were skipped, by reason.
    pub left_out: Vec<LeftOut>,
}

/// Routes that use a channel without a provider.
#[derive(Debug)]
pub struct LeftOut {
    /// The reason, and the settings to change.
    pub why: String,
    /// The events of the routes.
    pub events: Vec<String>,
}

impl LoadedFile {
    fn leave_out(&mut self, event: String, why: &str) {
        match self.left_out.iter_mut().find(|left| left.why == why) {
            Some(left) => left.events.push(event),
            None => self.left_out.push(LeftOut { why: why.to_owned(), events: vec![event] }),
        }
    }
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { why, events } = self;
        let (count, events) = (events.len(), events.join(", "));
        write!(f, "skipped {count} {} ({events}): {why}", if count == 1 { "route" } else { "routes" })
    }
}

impl std::fmt::Display for LoadedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let left_out: usize = self.left_out.iter().map(|left| left.events.len()).sum();
        writeln!(f, "templates: {}", self.templates)?;
        writeln!(f, "routes: {}, {left_out} skipped", self.routes)
    }
}

/// The results of a file's entries of one kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LoadCounts {
    /// The number of new entries.
    pub created: usize,
    /// The number of entries that replaced an existing one.
    pub replaced: usize,
    /// The number of entries that existed already, equal or different.
    pub kept: usize,
}

impl LoadCounts {
    fn count(&mut self, put: PutResult) {
        match put {
            PutResult::Created => self.created += 1,
            PutResult::Replaced => self.replaced += 1,
            PutResult::Kept => self.kept += 1,
        }
    }
}

impl std::fmt::Display for LoadCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { created, replaced, kept } = self;
        write!(f, "{created} created, {replaced} replaced, {kept} kept")
    }
}

/// Loads the templates and the routes of a file, and returns the results. A route with a delivery over a channel
/// without a provider is skipped as a whole. A route with some of its deliveries would be a different route, which the
/// next load of the file would keep.
///
/// # Errors
/// [`Error::Invalid`] for a file that cannot be read, and for the first invalid entry: earlier entries are loaded.
pub async fn load(
    (templates, routes): (&Templates, &Routes),
    path: &Path,
    Options { is_replacing, is_strict }: Options,
) -> Result<LoadedFile> {
    let place = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|why| Error::invalid(&place, why.to_string()))?;
    let set: Set = Figment::from(Toml::string(&text)).extract().map_err(|why| unreadable(&place, why))?;
    let mut loaded = LoadedFile::default();
    for (index, entry) in set.templates.into_iter().enumerate() {
        let at = |why| within(&format!("{place}: templates[{index}]"), why);
        loaded.templates.count(put_template(templates, entry, is_replacing).await.map_err(at)?);
    }
    for (index, entry) in set.routes.into_iter().enumerate() {
        let at = |why| within(&format!("{place}: routes[{index}]"), why);
        let RouteEntry { event, description, group, transactional, enabled, deliveries } = entry;
        let deliveries: Vec<NewDelivery> = deliveries.into_iter().map(NewDelivery::from).collect();
        if !is_strict && let Some(why) = routes.missing_provider(&deliveries) {
            loaded.leave_out(event, why);
            continue;
        }
        let new = RouteChanges {
            event: Some(event),
            description: Some(description),
            group: Some(group),
            transactional,
            enabled,
            deliveries: Some(deliveries),
        };
        loaded.routes.count(routes.put(new, is_replacing).await.map_err(at)?);
    }
    Ok(loaded)
}

async fn put_template(templates: &Templates, entry: TemplateEntry, is_replacing: bool) -> Result<PutResult> {
    let locale = entry.locale.as_deref().map(str::parse::<Locale>).transpose();
    let locale = locale.map_err(|why| Error::invalid("locale", why.to_string()))?;
    let texts = Texts { subject: entry.subject, text: entry.text, html: entry.html };
    let filter =
        TemplateListFilter { name: Some(entry.name.clone()), channel: Some(entry.channel), locale: None };
    let limit = i64::from(paging::LARGEST_LIMIT);
    let (known, _) = templates.list(filter, None, limit, TemplateView::from).await?;
    let Some(known) = known.into_iter().find(|known| known.locale == locale) else {
        let new = NewTemplate { name: entry.name, channel: entry.channel, locale, texts };
        let answer =
            |made: &StoredTemplate| IdempotentResponse::new(201, None, &TemplateView::from(made.clone()));
        templates.create(new, Mode::Commit(None), answer).await?;
        return Ok(PutResult::Created);
    };
    let stored = Texts { subject: known.subject, text: known.text, html: known.html };
    if stored == texts || !is_replacing {
        return Ok(PutResult::Kept);
    }
    let change =
        TemplateChange { subject: Some(texts.subject), text: Some(texts.text), html: Some(texts.html) };
    templates.patch(known.id, change).await?;
    Ok(PutResult::Replaced)
}

fn unreadable(place: &str, error: figment::Error) -> Error {
    let complaint = |one: figment::Error| {
        FieldError::new(format!("{place}: {}", one.path.join(".")), one.kind.to_string())
    };
    Error::Invalid(error.into_iter().map(complaint).collect())
}

fn within(place: &str, error: Error) -> Error {
    match error {
        Error::Invalid(fields) => Error::Invalid(fields.iter().map(|wrong| wrong.within(place)).collect()),
        other => other,
    }
}
