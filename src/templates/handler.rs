//! The HTTP handlers of templates: `/api/v1/templates`.

mod schema;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::schema::{TemplateBody, TemplatePatch, TemplateTrialBody, TextTrialBody};
use super::model::{StoredTemplate, TemplateListFilter, check_name};
use super::usecase::Templates;
use super::views::{TemplatePreviewView, TemplateVersionView, TemplateView};
use crate::db::types::TemplateId;
use crate::error::{Complaints, Error, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::json::{Json, Query, path_id};
use crate::http::operations::{Operations, operations};
use crate::idempotency::IdempotentResponse;
use crate::kinds::{ChannelKind, ChannelToPeople};
use crate::locale::Locale;
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_templates: TemplatesRead,
        create_template: TemplatesWrite,
        preview_texts: TemplatesRead,
        get_template: TemplatesRead,
        patch_template: TemplatesWrite,
        delete_template: TemplatesWrite,
        preview_template: TemplatesRead,
        list_template_versions: TemplatesRead,
        get_template_version: TemplatesRead,
        restore_template_version: TemplatesWrite,
    ]
}

/// Create a template
///
/// Creates a template. A template without a locale is the fallback for the other languages of its name and channel, and
/// must be created before them.
#[utoipa::path(post, path = "/api/v1/templates", operation_id = "create_template", tag = "templates",
    request_body = TemplateBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the template that would be created", body = TemplateView),
        (status = 201, description = "The template, with its path in `Location`", body = TemplateView,
            headers(("Location" = String, description = "The path of the template"))),
        (status = 409, description = "A template with this name, channel and locale exists already"),
    ))]
pub async fn create_template(
    service: web::Data<Templates>,
    dry_run: DryRun,
    posted: Posted<TemplateBody>,
) -> Result<HttpResponse> {
    let answer = |made: &StoredTemplate| {
        let path = format!("/api/v1/templates/{}", made.id);
        IdempotentResponse::created(path, &TemplateView::from(made.clone()))
    };
    Ok(respond(service.create(posted.value.into_new()?, dry_run.mode(posted.key), answer).await?))
}

/// The query parameters of the list of templates.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TemplatesQuery {
    /// Lists only templates with this name.
    #[param(min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$", nullable = false)]
    name: Option<String>,
    /// Lists only templates for this channel.
    #[param(value_type = Option<ChannelToPeople>, inline, nullable = false)]
    channel: Option<String>,
    /// Lists only templates with exactly this locale.
    #[param(value_type = Option<Locale>, inline, nullable = false)]
    locale: Option<String>,
    /// The largest number of items to return, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<TemplateId>, inline, nullable = false)]
    cursor: Option<String>,
}

impl TemplatesQuery {
    fn filter(&self) -> Result<TemplateListFilter> {
        let mut wrong = Complaints::default();
        if let Some(name) = &self.name {
            wrong.check("name", check_name(name));
        }
        let channel = self.channel.as_deref().map(ChannelKind::to_people).transpose();
        let locale = self.locale.as_deref().map(str::parse::<Locale>).transpose();
        let filter = TemplateListFilter {
            name: self.name.clone(),
            channel: wrong.check("channel", channel).flatten(),
            locale: wrong.check("locale", locale).flatten(),
        };
        wrong.finish()?;
        Ok(filter)
    }
}

/// List templates
///
/// Lists templates in the order of creation, a page at a time.
#[utoipa::path(get, path = "/api/v1/templates", operation_id = "list_templates", tag = "templates", params(TemplatesQuery),
    responses((status = 200, description = "A page of templates", body = Page<TemplateView>)))]
pub async fn list_templates(
    service: web::Data<Templates>,
    Query(query): Query<TemplatesQuery>,
) -> Result<HttpResponse> {
    let (filter, cursor) = (query.filter()?, paging::cursor(query.cursor.as_deref())?);
    let limit = paging::limit(query.limit.as_deref())?;
    let (items, next) = service.list(filter, cursor, limit, TemplateView::from).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Read a template
#[utoipa::path(get, path = "/api/v1/templates/{id}", operation_id = "get_template", tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template")),
    responses((status = 200, description = "The template with the version in use", body = TemplateView)))]
pub async fn get_template(service: web::Data<Templates>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(TemplateView::from(service.get(path_id(&id)?).await?)))
}

/// Change a template
///
/// Stores changed texts as the next version, which is then in use. Equal texts create no version.
#[utoipa::path(patch, path = "/api/v1/templates/{id}", operation_id = "patch_template", tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template")),
    request_body = TemplatePatch,
    responses((status = 200, description = "The changed template", body = TemplateView)))]
pub async fn patch_template(
    service: web::Data<Templates>,
    id: web::Path<String>,
    body: Json<TemplatePatch>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(TemplateView::from(service.patch(path_id(&id)?, body.0.into()).await?)))
}

/// Delete a template with all its versions
///
/// Deletes a template. Mailings and notifications that were created from it keep their texts.
#[utoipa::path(delete, path = "/api/v1/templates/{id}", operation_id = "delete_template", tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template")),
    responses(
        (status = 204, description = "The template was deleted"),
        (status = 409, description = "Templates with a locale fall back to it"),
    ))]
pub async fn delete_template(service: web::Data<Templates>, id: web::Path<String>) -> Result<HttpResponse> {
    service.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The query parameters of the list of versions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VersionsQuery {
    /// The largest number of items to return, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<i32>, nullable = false)]
    cursor: Option<String>,
}

/// List the versions of a template
///
/// Lists the versions of a template, the newest first, a page at a time.
#[utoipa::path(get, path = "/api/v1/templates/{id}/versions", operation_id = "list_template_versions",
    tag = "templates", params(("id" = uuid::Uuid, Path, description = "The id of the template"), VersionsQuery),
    responses((status = 200, description = "A page of versions", body = Page<TemplateVersionView>)))]
pub async fn list_template_versions(
    service: web::Data<Templates>,
    id: web::Path<String>,
    Query(query): Query<VersionsQuery>,
) -> Result<HttpResponse> {
    let (id, cursor) = (path_id(&id)?, paging::cursor(query.cursor.as_deref())?);
    let limit = paging::limit(query.limit.as_deref())?;
    let (items, next) = service.versions(id, cursor, limit, TemplateVersionView::from).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|version| version.to_string()) }))
}

fn version(text: &str) -> Result<i32> {
    text.parse().map_err(|_| Error::invalid("version", "must be a whole number"))
}

/// Read a version of a template
#[utoipa::path(get, path = "/api/v1/templates/{id}/versions/{version}", operation_id = "get_template_version",
    tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template"),
        ("version" = i32, Path, description = "The number of the version")),
    responses((status = 200, description = "The version", body = TemplateVersionView)))]
pub async fn get_template_version(
    service: web::Data<Templates>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok()
        .json(TemplateVersionView::from(service.version(path_id(&path.0)?, version(&path.1)?).await?)))
}

/// Restore an earlier version of a template
///
/// Stores the texts of an earlier version as the next version, which is then in use. If they are in use already, no
/// version is created.
#[utoipa::path(post, path = "/api/v1/templates/{id}/versions/{version}/restore",
    operation_id = "restore_template_version", tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template"),
        ("version" = i32, Path, description = "The number of the version")),
    responses((status = 200, description = "The changed template", body = TemplateView)))]
pub async fn restore_template_version(
    service: web::Data<Templates>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok()
        .json(TemplateView::from(service.restore(path_id(&path.0)?, version(&path.1)?).await?)))
}

/// Preview a template with data
#[utoipa::path(post, path = "/api/v1/templates/{id}/preview", operation_id = "preview_template", tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template")),
    request_body = TemplateTrialBody,
    responses((status = 200, description = "The rendered texts, or the error", body = TemplatePreviewView)))]
pub async fn preview_template(
    service: web::Data<Templates>,
    id: web::Path<String>,
    body: Json<TemplateTrialBody>,
) -> Result<HttpResponse> {
    let (version, data) = body.0.into_parts()?;
    Ok(HttpResponse::Ok()
        .json(TemplatePreviewView::from(service.preview(path_id(&id)?, version, data).await?)))
}

/// Preview texts with data
///
/// Renders texts without creating a template.
#[utoipa::path(post, path = "/api/v1/templates/preview", operation_id = "preview_texts", tag = "templates",
    request_body = TextTrialBody,
    responses((status = 200, description = "The rendered texts, or the error", body = TemplatePreviewView)))]
pub async fn preview_texts(service: web::Data<Templates>, body: Json<TextTrialBody>) -> Result<HttpResponse> {
    let (channel, texts, data) = body.0.into_parts()?;
    Ok(HttpResponse::Ok().json(TemplatePreviewView::from(service.preview_texts(channel, texts, data).await?)))
}
