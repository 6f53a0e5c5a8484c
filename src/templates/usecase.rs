//! The use cases of templates.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::cache::{Cache, CachedTemplate};
use super::content::{Content, Texts};
use super::language::Data;
use super::model::{
    NewTemplate, StoredTemplate, TemplateChange, TemplateListFilter, TemplatePreview, TemplateVersion,
    check_name, placeholders,
};
use super::pool::RenderPool;
use super::repo;
use super::unsubscribe::{UnsubscribeUrl, WithLink};
use super::variants::{Variant, Variants};
use crate::clock::Clock;
use crate::db::types::TemplateId;
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::idempotency::{self, Created, IdempotentResponse, Mode};
use crate::kinds::ChannelKind;
use crate::paging;
use crate::segments::segments;

/// The most names of templates that an error lists.
const NAMES_LISTED: i64 = 20;

/// The use cases of templates; cloning it is cheap.
#[derive(Clone)]
pub struct Templates {
    db: Db,
    clock: Clock,
    cache: Arc<Cache>,
    pool: RenderPool,
    unsubscribe_url: Option<UnsubscribeUrl>,
}

impl Templates {
    /// Creates the use cases over a database and a clock.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, cache: Arc::default(), pool: RenderPool::default(), unsubscribe_url: None }
    }

    /// Adds unsubscribe links in texts.
    #[must_use]
    pub fn with_links(self, unsubscribe_url: Option<UnsubscribeUrl>) -> Self {
        Self { unsubscribe_url, ..self }
    }

    /// Returns the function that creates unsubscribe links, if recipients can reach the service.
    pub fn unsubscribe_url(&self) -> Option<&UnsubscribeUrl> {
        self.unsubscribe_url.as_ref()
    }

    /// Returns the pool that renders templates for requests.
    pub fn pool(&self) -> &RenderPool {
        &self.pool
    }

    /// Creates a template. `answer` makes the response, which is stored under the idempotency key.
    ///
    /// # Errors
    /// [`Error::Invalid`] for texts that are not valid on the channel, and for a locale without a fallback;
    /// [`Error::Conflict`] if a template with this name, channel and locale exists.
    pub async fn create(
        &self,
        new: NewTemplate,
        mode: Mode,
        answer: impl FnOnce(&StoredTemplate) -> Result<IdempotentResponse>,
    ) -> Result<Created<StoredTemplate>> {
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
        let made = idempotency::create(&self.db, (mode, id), now, answer, insert).await?;
        self.cache.forget(&name, channel);
        Ok(made)
    }

    /// Returns the template with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: TemplateId) -> Result<StoredTemplate> {
        self.db.read(move |c| repo::get(c, id)).await
    }

    /// Returns the matching templates after `cursor`, in the order of creation and in the form of `show`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list<V: Serialize + Send + 'static>(
        &self,
        filter: TemplateListFilter,
        cursor: Option<TemplateId>,
        limit: i64,
        show: impl Fn(StoredTemplate) -> V + Send + 'static,
    ) -> Result<(Vec<V>, Option<TemplateId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&TemplateId>, count| repo::list(c, &filter, after.copied(), count);
            paging::page_of_views(limit, cursor, part, |template| template.id, show)
        };
        self.db.read(read).await
    }

    /// Stores changed texts as the next version. Equal texts create no version.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] for texts that are not valid on the channel.
    pub async fn patch(&self, id: TemplateId, change: TemplateChange) -> Result<StoredTemplate> {
        self.revise(id, move |_, texts| Ok(change.of(texts))).await
    }

    /// Stores the texts of an earlier version as the next version.
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

    /// Deletes a template with all its versions. Mailings and notifications that were created from it keep their texts.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] while templates with a locale fall back to it.
    pub async fn delete(&self, id: TemplateId) -> Result<()> {
        let delete = move |c: &mut AnyConnection| {
            repo::lock(c, id)?;
            let template = repo::get(c, id)?;
            // creating a template that falls back to this one locks this row too
            let family = repo::in_use(c, &template.name, template.channel)?;
            if template.locale.is_none() && family.len() > 1 {
                return Err(Error::Conflict(format!(
                    "templates with the name `{}` and a locale fall back to it; delete them first",
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

    /// Returns the versions of a template before `cursor`, the newest first and in the form of `show`.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn versions<V: Serialize + Send + 'static>(
        &self,
        id: TemplateId,
        cursor: Option<i32>,
        limit: i64,
        show: impl Fn(TemplateVersion) -> V + Send + 'static,
    ) -> Result<(Vec<V>, Option<i32>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |before: Option<&i32>, count| repo::versions(c, id, before.copied(), count);
            let page = paging::page_of_views(limit, cursor, part, |version| version.version, show)?;
            // every template has a version, so an empty page may mean that the template does not exist
            if page.0.is_empty() { repo::get(c, id).map(|_| page) } else { Ok(page) }
        };
        self.db.read(read).await
    }

    /// Returns one version of a template.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn version(&self, id: TemplateId, number: i32) -> Result<TemplateVersion> {
        let read = move |c: &mut AnyConnection| repo::get(c, id).and_then(|_| repo::version(c, id, number));
        self.db.read(read).await
    }

    /// Renders a template with the given data, in the given version or in the one in use.
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

    /// Renders texts with the given data, without storing them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for texts that are not valid on the channel.
    pub async fn preview_texts(
        &self,
        channel: ChannelKind,
        texts: Texts,
        data: Map<String, Value>,
    ) -> Result<TemplatePreview> {
        // a link without a recipient, which shows its place in the text
        let link = self.unsubscribe_url.as_ref().and_then(|make| make(channel, "", None));
        let link = link.as_deref().and_then(|link| link.rsplit_once('/'));
        let link = link.map(|(page, _)| format!("{page}/preview"));
        self.pool.run(move || try_with(&texts, channel, &WithLink::after(&data, || link.clone()))).await?
    }

    /// Returns a template in all its languages, from a cache. A change from another node is seen within about a second.
    ///
    /// # Errors
    /// Database errors.
    pub async fn variants(&self, name: &str, channel: ChannelKind) -> Result<Option<Arc<Variants>>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let (known, generation) = self.cache.find(name, channel);
        let before = match known {
            CachedTemplate::Fresh(found) => return Ok(found),
            CachedTemplate::Old { found, in_use } => Some((found, in_use)),
            CachedTemplate::Nothing => None,
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

    /// Does the same as [`Templates::variants`], for the name in a `field` of a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a template that does not exist, with the names of existing ones.
    pub async fn named(&self, field: &str, name: &str, channel: ChannelKind) -> Result<Arc<Variants>> {
        check_name(name).map_err(|why| Error::invalid(field, why))?;
        if let Some(found) = self.variants(name, channel).await? {
            return Ok(found);
        }
        let names = self.names(channel).await?;
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(Error::invalid(
            field,
            format!("the template `{name}` for {channel} does not exist; existing templates: {there}"),
        ))
    }

    /// Returns the first names of templates for a channel.
    ///
    /// # Errors
    /// Database errors.
    pub async fn names(&self, channel: ChannelKind) -> Result<Vec<String>> {
        self.db.read(move |c| repo::names(c, channel, NAMES_LISTED)).await
    }
}

/// Locks the fallback of a template, so that it is not deleted meanwhile.
fn hold_base(c: &mut AnyConnection, template: &StoredTemplate) -> Result<()> {
    if let Some(base) = repo::base(c, &template.name, template.channel)? {
        repo::lock(c, base)?;
        // it may have been deleted before it was locked
        if repo::base(c, &template.name, template.channel)? == Some(base) {
            return Ok(());
        }
    }
    Err(Error::invalid(
        "locale",
        format!(
            "requires a template `{}` for {} without a locale, which is the fallback; create that first",
            template.name, template.channel
        ),
    ))
}

/// The template of a name, if it exists, and its versions in use.
type ReadTemplate = (Option<Arc<Variants>>, Vec<(TemplateId, i32)>);

fn read_all(c: &mut AnyConnection, name: &str, channel: ChannelKind) -> Result<ReadTemplate> {
    let rows = repo::of_name(c, name, channel)?;
    let in_use = rows.iter().map(|row| (row.id, row.version)).collect();
    let mut variants = rows.into_iter().map(|row| {
        let (locale, version) = (row.locale.as_ref().map(ToString::to_string), row.version);
        // it was validated when it was stored, but an earlier version may have accepted more
        Variant::parse(locale, version, channel, row.texts()).map_err(|why| {
            let id = row.id;
            let why = format!("version {version} of `{name}` (template {id}) is not valid any more: {why}");
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
    let has_segments = channel.spec().text.has_segments;
    Ok(TemplatePreview {
        segments: filled.as_ref().filter(|_| has_segments).map(|filled| segments(&filled.text)),
        placeholders: owned(content.paths()),
        missing: owned(content.missing(data)),
        subject: filled.as_ref().and_then(|filled| filled.subject.clone()),
        text: filled.as_ref().map(|filled| filled.text.clone()),
        html: filled.and_then(|filled| filled.html),
        error,
    })
}
