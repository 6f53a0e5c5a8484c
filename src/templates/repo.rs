//! The SQL of templates.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};

use super::content::Texts;
use super::model::{StoredTemplate, TemplateListFilter, TemplateVersion};
use crate::db::AnyConnection;
use crate::db::schema::{template, template_version};
use crate::db::types::{TemplateId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;
use crate::locale::Locale;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = template)]
struct Row {
    id: TemplateId,
    name: String,
    channel: i16,
    locale: String,
    version: i32,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = template_version)]
struct VersionRow {
    template_id: TemplateId,
    version: i32,
    subject: Option<String>,
    text: String,
    html: Option<String>,
    placeholders: String,
    created_at: Timestamp,
}

/// Templates joined with their version in use. It is a macro because the type of the join cannot be written.
macro_rules! current {
    () => {
        template::table.inner_join(
            template_version::table.on(template_version::template_id
                .eq(template::id)
                .and(template_version::version.eq(template::version))),
        )
    };
}

impl Row {
    fn into_model(self, texts: VersionRow) -> Result<StoredTemplate> {
        Ok(StoredTemplate {
            id: self.id,
            name: self.name,
            channel: ChannelKind::from_code(self.channel)?,
            locale: locale(&self.locale)?,
            version: self.version,
            subject: texts.subject,
            text: texts.text,
            html: texts.html,
            placeholders: read(&texts.placeholders)?,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// Parses a stored locale. The fallback's is `''`, because a unique index would not compare two nulls.
fn locale(stored: &str) -> Result<Option<Locale>> {
    let parsed = (!stored.is_empty()).then(|| stored.parse()).transpose();
    parsed.map_err(|_| Error::internal("the stored locale of a template is not valid"))
}

fn stored(locale: Option<&Locale>) -> String {
    locale.map(ToString::to_string).unwrap_or_default()
}

fn read(placeholders: &str) -> Result<Vec<String>> {
    serde_json::from_str(placeholders).map_err(|e| Error::Internal(e.into()))
}

/// Inserts a new template with its first version.
///
/// # Errors
/// [`Error::Conflict`] if a template with this name, channel and locale exists.
pub fn insert(c: &mut AnyConnection, new: &StoredTemplate) -> Result<()> {
    let row = Row {
        id: new.id,
        name: new.name.clone(),
        channel: new.channel.code(),
        locale: stored(new.locale.as_ref()),
        version: new.version,
        created_at: new.created_at,
        updated_at: new.updated_at,
    };
    diesel::insert_into(template::table).values(row).execute(c).map_err(|error| match error {
        QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            Error::Conflict("a template with this name, channel and locale exists already".into())
        }
        other => other.into(),
    })?;
    insert_version(c, new)
}

fn insert_version(c: &mut AnyConnection, of: &StoredTemplate) -> Result<()> {
    let row = VersionRow {
        template_id: of.id,
        version: of.version,
        subject: of.subject.clone(),
        text: of.text.clone(),
        html: of.html.clone(),
        placeholders: serde_json::to_string(&of.placeholders).map_err(|e| Error::Internal(e.into()))?,
        created_at: of.updated_at,
    };
    diesel::insert_into(template_version::table).values(row).execute(c)?;
    Ok(())
}

/// Inserts the next version of a locked template, and puts it in use.
///
/// # Errors
/// Database errors.
pub fn revise(c: &mut AnyConnection, changed: &StoredTemplate) -> Result<()> {
    insert_version(c, changed)?;
    diesel::update(template::table.find(changed.id))
        .set((template::version.eq(changed.version), template::updated_at.eq(changed.updated_at)))
        .execute(c)?;
    Ok(())
}

/// Locks a template's row until the transaction ends, so that no other transaction changes it. On SQLite the only
/// writer needs no lock.
///
/// # Errors
/// Database errors.
pub fn lock(c: &mut AnyConnection, id: TemplateId) -> Result<()> {
    if let AnyConnection::Postgres(c) = c {
        template::table.find(id).select(template::id).for_update().first::<TemplateId>(c).optional()?;
    }
    Ok(())
}

/// Returns the template with this id.
///
/// # Errors
/// [`Error::NotFound`].
pub fn get(c: &mut AnyConnection, id: TemplateId) -> Result<StoredTemplate> {
    let row: Option<(Row, VersionRow)> = current!()
        .filter(template::id.eq(id))
        .select((Row::as_select(), VersionRow::as_select()))
        .first(c)
        .optional()?;
    let (row, texts) = row.ok_or_else(|| Error::not_found("template", id))?;
    row.into_model(texts)
}

/// Returns the template with this name and channel and without a locale, which is the fallback.
///
/// # Errors
/// Database errors.
pub fn base(c: &mut AnyConnection, name: &str, channel: ChannelKind) -> Result<Option<TemplateId>> {
    let found = template::table
        .filter(template::name.eq(name))
        .filter(template::channel.eq(channel.code()))
        .filter(template::locale.eq(""))
        .select(template::id)
        .first(c)
        .optional()?;
    Ok(found)
}

/// Returns the templates with this name and channel, each with its version in use, in the order of their locales. The
/// result changes with every change of a template.
///
/// # Errors
/// Database errors.
pub fn in_use(c: &mut AnyConnection, name: &str, channel: ChannelKind) -> Result<Vec<(TemplateId, i32)>> {
    Ok(template::table
        .filter(template::name.eq(name))
        .filter(template::channel.eq(channel.code()))
        .select((template::id, template::version))
        .order(template::locale)
        .load(c)?)
}

/// Returns the templates with this name and channel, the one without a locale first.
///
/// # Errors
/// Database errors.
pub fn of_name(c: &mut AnyConnection, name: &str, channel: ChannelKind) -> Result<Vec<StoredTemplate>> {
    let rows: Vec<(Row, VersionRow)> = current!()
        .filter(template::name.eq(name))
        .filter(template::channel.eq(channel.code()))
        .select((Row::as_select(), VersionRow::as_select()))
        .order(template::locale)
        .load(c)?;
    rows.into_iter().map(|(row, texts)| row.into_model(texts)).collect()
}

/// Returns up to `limit` names of templates for a channel, sorted.
///
/// # Errors
/// Database errors.
pub fn names(c: &mut AnyConnection, channel: ChannelKind, limit: i64) -> Result<Vec<String>> {
    Ok(template::table
        .filter(template::channel.eq(channel.code()))
        .filter(template::locale.eq(""))
        .select(template::name)
        .order(template::name)
        .limit(limit)
        .load(c)?)
}

/// Returns up to `limit` templates after `after` that match the filter, in the order of creation.
///
/// # Errors
/// Database errors.
pub fn list(
    c: &mut AnyConnection,
    filter: &TemplateListFilter,
    after: Option<TemplateId>,
    limit: i64,
) -> Result<Vec<StoredTemplate>> {
    let mut query = current!()
        .select((Row::as_select(), VersionRow::as_select()))
        .order(template::id)
        .limit(limit)
        .into_boxed();
    if let Some(name) = &filter.name {
        query = query.filter(template::name.eq(name.clone()));
    }
    if let Some(channel) = filter.channel {
        query = query.filter(template::channel.eq(channel.code()));
    }
    if let Some(locale) = &filter.locale {
        query = query.filter(template::locale.eq(locale.to_string()));
    }
    if let Some(after) = after {
        query = query.filter(template::id.gt(after));
    }
    let rows: Vec<(Row, VersionRow)> = query.load(c)?;
    rows.into_iter().map(|(row, texts)| row.into_model(texts)).collect()
}

/// Returns up to `limit` versions of a template before `before`, the newest first.
///
/// # Errors
/// Database errors.
pub fn versions(
    c: &mut AnyConnection,
    id: TemplateId,
    before: Option<i32>,
    limit: i64,
) -> Result<Vec<TemplateVersion>> {
    let mut query = template_version::table
        .filter(template_version::template_id.eq(id))
        .select(VersionRow::as_select())
        .order(template_version::version.desc())
        .limit(limit)
        .into_boxed();
    if let Some(before) = before {
        query = query.filter(template_version::version.lt(before));
    }
    let rows: Vec<VersionRow> = query.load(c)?;
    rows.into_iter().map(TemplateVersion::try_from).collect()
}

/// Returns one version of a template.
///
/// # Errors
/// [`Error::NotFound`].
pub fn version(c: &mut AnyConnection, id: TemplateId, number: i32) -> Result<TemplateVersion> {
    let row: Option<VersionRow> =
        template_version::table.find((id, number)).select(VersionRow::as_select()).first(c).optional()?;
    row.ok_or_else(|| Error::not_found("version of the template", number))?.try_into()
}

/// Deletes a locked template with its versions.
///
/// # Errors
/// Database errors.
pub fn delete(c: &mut AnyConnection, id: TemplateId) -> Result<()> {
    diesel::delete(template_version::table.filter(template_version::template_id.eq(id))).execute(c)?;
    diesel::delete(template::table.find(id)).execute(c)?;
    Ok(())
}

impl TryFrom<VersionRow> for TemplateVersion {
    type Error = Error;

    fn try_from(row: VersionRow) -> Result<Self> {
        Ok(Self {
            version: row.version,
            placeholders: read(&row.placeholders)?,
            subject: row.subject,
            text: row.text,
            html: row.html,
            created_at: row.created_at,
        })
    }
}

impl From<TemplateVersion> for Texts {
    fn from(version: TemplateVersion) -> Self {
        Self { subject: version.subject, text: version.text, html: version.html }
    }
}
