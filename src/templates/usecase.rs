//! What can be done with templates.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::cache::{Cache, Known};
use super::content::{Content, Texts};
use super::language::Data;
use super::model::{
    ListFilter, NewTemplate, StoredTemplate, TemplateChange, TemplatePreview, TemplateVersion, check_name,
    placeholders,
};
use super::pool::Pool;
use super::repo;
use super::unsubscribe::{UnsubscribeUrl, WithLink};
use super::variants::{Variant, Variants};
use crate::clock::Clock;
use crate::db::types::TemplateId;
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::idempotency::{self, Answer, Made, Mode};
use crate::kinds::ChannelKind;
use crate::paging;
use crate::segments::segments;

/// How many names a complaint lists.
const NAMES_LISTED: i64 = 20;

/// The templates of one database; cloning it is cheap.
#[derive(Clone)]
pub struct Templates {
    db: Db,
    clock: Clock,
    cache: Arc<Cache>,
    pool: Pool,
    unsubscribe_url: Option<UnsubscribeUrl>,
}

impl Templates {
    /// Over this database, by this clock.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, cache: Arc::default(), pool: Pool::default(), unsubscribe_url: None }
    }

    /// With links to unsubscribe in texts.
    #[must_use]
    pub fn with_links(self, unsubscribe_url: Option<UnsubscribeUrl>) -> Self {
        Self { unsubscribe_url, ..self }
    }

    /// Makes the links to unsubscribe, if recipients can reach the service.
    pub fn unsubscribe_url(&self) -> Option<&UnsubscribeUrl> {
        self.unsubscribe_url.as_ref()
    }

    /// The threads that fill templates for requests.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Makes a template. `answer` says what the request is answered, and another one under the same key.
    ///
    /// # Errors
    /// [`Error::Invalid`] for texts that are none on the channel, and for a locale where there is nothing to fall back
    /// to; [`Error::Conflict`] when there is one of this name, channel and locale.
    pub async fn create(
        &self,
        new: NewTemplate,
        mode: Mode,
        answer: impl FnOnce(&StoredTemplate) -> Result<Answer>,
    ) -> Result<Made<StoredTemplate>> {
        check_name(&new.name).map_err(|why| Error::invalid("name", why))?;
        let now = self.clock.now();
        let template = StoredTemplate {
            id: TemplateId::new(),
            placeholders: placeholders(&new.texts, new.channel)?,
            name: new.name,
            channel: new.channel,
            locale: new.locale,
            version: 1,
            subject: new.texts.subject,
            text: new.texts.text,
            html: new.texts.html,
            created_at: now,
            updated_at: now,
        };
        let answer = answer(&template)?;
        let (name, channel, id) = (template.name.clone(), template.channel, template.id.0);
        let insert = move |c: &mut AnyConnection| {
            if template.locale.is_some() {
                hold_base(c, &template)?;
            }
            repo::insert(c, &template)?;
            Ok(template)
        };
        let made = idempotency::make(&self.db, (mode, id), now, answer, insert).await?;
        self.cache.forget(&name, channel);
        Ok(made)
    }

    /// The template with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: TemplateId) -> Result<StoredTemplate> {
        self.db.read(move |c| repo::get(c, id)).await
    }

    /// The templates after `cursor` that match, in the order of their making.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        filter: ListFilter,
        cursor: Option<TemplateId>,
        limit: i64,
    ) -> Result<(Vec<StoredTemplate>, Option<TemplateId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&TemplateId>, count| repo::list(c, &filter, after.copied(), count);
            paging::page_of(limit, cursor, part, |template| template.id)
        };
        self.db.read(read).await
    }

    /// Changes what the texts say, as another version; texts that stay as they are make none.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] for texts that are none on the channel.
    pub async fn patch(&self, id: TemplateId, change: TemplateChange) -> Result<StoredTemplate> {
        self.revise(id, move |_, texts| Ok(change.of(texts))).await
    }

    /// Takes the texts of an earlier version, as another version.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn restore(&self, id: TemplateId, number: i32) -> Result<StoredTemplate> {
        self.revise(id, move |c, _| Ok(repo::version(c, id, number)?.into())).await
    }

    async fn revise(
        &self,
        id: TemplateId,
        next: impl FnOnce(&mut AnyConnection, Texts) -> Result<Texts> + Send + 'static,
    ) -> Result<StoredTemplate> {
        let now = self.clock.now();
        let revise = move |c: &mut AnyConnection| {
            repo::lock(c, id)?;
            let mut template = repo::get(c, id)?;
            let texts = next(c, template.texts())?;
            if template.revise(texts, now)? {
                repo::revise(c, &template)?;
            }
            Ok(template)
        };
        let template = self.db.write(revise).await?;
        self.cache.forget(&template.name, template.channel);
        Ok(template)
    }

    /// Removes a template with all its versions. Mailings and notifications that were made from it keep their texts.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] while others fall back to it.
    pub async fn delete(&self, id: TemplateId) -> Result<()> {
        let delete = move |c: &mut AnyConnection| {
            repo::lock(c, id)?;
            let template = repo::get(c, id)?;
            // who makes one that falls back to this one holds its row as well
            let family = repo::in_use(c, &template.name, template.channel)?;
            if template.locale.is_none() && family.len() > 1 {
                return Err(Error::Conflict(format!(
                    "templates of the name `{}` with a locale fall back to it: delete them first",
                    template.name
                )));
            }
            repo::delete(c, id)?;
            Ok(template)
        };
        let gone = self.db.write(delete).await?;
        self.cache.forget(&gone.name, gone.channel);
        Ok(())
    }

    /// The versions of a template before `cursor`, the newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn versions(
        &self,
        id: TemplateId,
        cursor: Option<i32>,
        limit: i64,
    ) -> Result<(Vec<TemplateVersion>, Option<i32>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |before: Option<&i32>, count| repo::versions(c, id, before.copied(), count);
            let page = paging::page_of(limit, cursor, part, |version| version.version)?;
            // a template has a version at least: if there is none, it may be that there is no template
            if page.0.is_empty() { repo::get(c, id).map(|_| page) } else { Ok(page) }
        };
        self.db.read(read).await
    }

    /// One version of a template.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn version(&self, id: TemplateId, number: i32) -> Result<TemplateVersion> {
        let read = move |c: &mut AnyConnection| repo::get(c, id).and_then(|_| repo::version(c, id, number));
        self.db.read(read).await
    }

    /// What a template says with these data, in the version in use or in this one.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn preview(
        &self,
        id: TemplateId,
        number: Option<i32>,
        data: Map<String, Value>,
    ) -> Result<TemplatePreview> {
        let read = move |c: &mut AnyConnection| {
            let template = repo::get(c, id)?;
            let texts = match number {
                Some(number) => repo::version(c, id, number)?.into(),
                None => template.texts(),
            };
            Ok((template.channel, texts))
        };
        let (channel, texts) = self.db.read(read).await?;
        self.preview_texts(channel, texts, data).await
    }

    /// What texts that are not kept say with these data.
    ///
    /// # Errors
    /// [`Error::Invalid`] for texts that are none on the channel.
    pub async fn preview_texts(
        &self,
        channel: ChannelKind,
        texts: Texts,
        data: Map<String, Value>,
    ) -> Result<TemplatePreview> {
        // nobody's link, which shows where one will stand
        let link = self.unsubscribe_url.as_ref().and_then(|make| make(channel, "", None));
        let link = link.as_deref().and_then(|link| link.rsplit_once('/'));
        let link = link.map(|(page, _)| format!("{page}/preview"));
        self.pool.run(move || try_with(&texts, channel, &WithLink::after(&data, || link.clone()))).await?
    }

    /// A template in all its languages, read once and remembered. What is changed at another node comes through in about
    /// a second.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn variants(&self, name: &str, channel: ChannelKind) -> Result<Option<Arc<Variants>>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let (known, generation) = self.cache.find(name, channel);
        let before = match known {
            Known::Fresh(found) => return Ok(found),
            Known::Old { found, in_use } => Some((found, in_use)),
            Known::Nothing => None,
        };
        let wanted = name.to_owned();
        let read = move |c: &mut AnyConnection| {
            let in_use = repo::in_use(c, &wanted, channel)?;
            match before {
                Some((found, before)) if before == in_use => Ok((found, in_use)),
                _ => read_all(c, &wanted, channel),
            }
        };
        let (found, in_use) = self.db.read(read).await?;
        self.cache.remember(name, channel, (found.clone(), in_use), generation);
        Ok(found)
    }

    /// As [`Templates::variants`], for a `field` that names one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a template that there is not, with the names that there are.
    pub async fn named(&self, field: &str, name: &str, channel: ChannelKind) -> Result<Arc<Variants>> {
        check_name(name).map_err(|why| Error::invalid(field, why))?;
        if let Some(found) = self.variants(name, channel).await? {
            return Ok(found);
        }
        let names = self.names(channel).await?;
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(Error::invalid(field, format!("there is no template `{name}` for {channel}; there are: {there}")))
    }

    /// The first names of templates for this channel.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn names(&self, channel: ChannelKind) -> Result<Vec<String>> {
        self.db.read(move |c| repo::names(c, channel, NAMES_LISTED)).await
    }
}

/// Holds the template that this one falls back to, so that nobody deletes it meanwhile.
fn hold_base(c: &mut AnyConnection, template: &StoredTemplate) -> Result<()> {
    if let Some(base) = repo::base(c, &template.name, template.channel)? {
        repo::lock(c, base)?;
        // it may have gone before it was held
        if repo::base(c, &template.name, template.channel)? == Some(base) {
            return Ok(());
        }
    }
    Err(Error::invalid(
        "locale",
        format!(
            "there is no template `{}` for {} without a locale, which one with a locale falls back to: make that first",
            template.name, template.channel
        ),
    ))
}

/// What is known of a name, and which versions that is.
type Read = (Option<Arc<Variants>>, Vec<(TemplateId, i32)>);

fn read_all(c: &mut AnyConnection, name: &str, channel: ChannelKind) -> Result<Read> {
    let rows = repo::of_name(c, name, channel)?;
    let in_use = rows.iter().map(|row| (row.id, row.version)).collect();
    let mut variants = rows.into_iter().map(|row| {
        let (locale, version) = (row.locale.as_ref().map(ToString::to_string), row.version);
        // it was checked when it was stored, perhaps by an earlier version that took more
        Variant::parse(locale, version, channel, row.texts()).map_err(|why| {
            let id = row.id;
            let why = format!("version {version} of `{name}` (template {id}) cannot be read any more: {why}");
            Error::invalid("template", why)
        })
    });
    let Some(base) = variants.next().transpose()? else { return Ok((None, in_use)) };
    let others = variants.collect::<Result<Vec<_>>>()?;
    Ok((Some(Arc::new(Variants::new(base, others))), in_use))
}

fn try_with(texts: &Texts, channel: ChannelKind, data: &dyn Data) -> Result<TemplatePreview> {
    let content: Content = texts.parse(channel)?;
    let (filled, error) = match content.fill(data) {
        Ok(filled) => (Some(filled), None),
        Err(why) => (None, Some(why)),
    };
    let owned = |names: std::collections::BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
    let is_sms = channel == ChannelKind::Sms;
    Ok(TemplatePreview {
        segments: filled.as_ref().filter(|_| is_sms).map(|filled| segments(&filled.text)),
        placeholders: owned(content.paths()),
        missing: owned(content.missing(data)),
        subject: filled.as_ref().and_then(|filled| filled.subject.clone()),
        text: filled.as_ref().map(|filled| filled.text.clone()),
        html: filled.and_then(|filled| filled.html),
        error,
    })
}
