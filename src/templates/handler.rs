//! Templates over HTTP: `/api/v1/templates`.

mod schema;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::schema::{TemplateBody, TemplatePatch, TextTrialBody, TrialBody};
use super::model::{ListFilter, StoredTemplate, TemplatePreview, TemplateVersion, check_name};
use super::usecase::Templates;
use crate::db::types::TemplateId;
use crate::error::{Complaints, Error, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::json::{Json, Query, path_id};
use crate::http::once::{KeyHeader, Posted, respond};
use crate::http::routing::{get, others};
use crate::idempotency::Answer;
use crate::kinds::{ChannelKind, ChannelToPeople};
use crate::locale::Locale;
use crate::paging::{self, Page};

/// Registers the routes, relative to `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/templates")
            .route(get().to(list_templates))
            .route(web::post().to(create_template))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/templates/preview")
            .route(web::post().to(preview_texts))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/templates/{id}")
            .route(get().to(get_template))
            .route(web::patch().to(patch_template))
            .route(web::delete().to(delete_template))
            .default_service(others("GET, HEAD, PATCH, DELETE")),
    )
    .service(
        web::resource("/templates/{id}/preview")
            .route(web::post().to(preview_template))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/templates/{id}/versions")
            .route(get().to(list_template_versions))
            .default_service(others("GET, HEAD")),
    )
    .service(
        web::resource("/templates/{id}/versions/{version}")
            .route(get().to(get_template_version))
            .default_service(others("GET, HEAD")),
    )
    .service(
        web::resource("/templates/{id}/versions/{version}/restore")
            .route(web::post().to(restore_template_version))
            .default_service(others("POST")),
    );
}

/// Make a template
///
/// One without a locale is what those of the same name and channel fall back to, and is made before them.
#[utoipa::path(post, path = "/api/v1/templates", operation_id = "create_template", tag = "templates",
    request_body = TemplateBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the template as it would be", body = StoredTemplate),
        (status = 201, description = "The template, and its address in `Location`", body = StoredTemplate,
            headers(("Location" = String, description = "The path of the template"))),
        (status = 409, description = "There is one of this name, channel and locale"),
    ))]
pub async fn create_template(
    service: web::Data<Templates>,
    dry_run: DryRun,
    posted: Posted<TemplateBody>,
) -> Result<HttpResponse> {
    let answer = |made: &StoredTemplate| Answer::created(format!("/api/v1/templates/{}", made.id), made);
    Ok(respond(service.create(posted.value.into_new()?, dry_run.mode(posted.key), answer).await?))
}

/// Which templates to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those of this name.
    #[param(min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$", nullable = false)]
    name: Option<String>,
    /// Only those for this channel.
    #[param(value_type = Option<ChannelToPeople>, inline, nullable = false)]
    channel: Option<String>,
    /// Only those of this very locale.
    #[param(value_type = Option<Locale>, inline, nullable = false)]
    locale: Option<String>,
    /// How many to answer, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<TemplateId>, inline, nullable = false)]
    cursor: Option<String>,
}

impl ListQuery {
    fn filter(&self) -> Result<ListFilter> {
        let mut wrong = Complaints::default();
        if let Some(name) = &self.name {
            wrong.check("name", check_name(name));
        }
        let channel = self.channel.as_deref().map(ChannelKind::to_people).transpose();
        let locale = self.locale.as_deref().map(str::parse::<Locale>).transpose();
        let filter = ListFilter {
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
/// In the order of their making, a page at a time.
#[utoipa::path(get, path = "/api/v1/templates", operation_id = "list_templates", tag = "templates", params(ListQuery),
    responses((status = 200, description = "A page of templates", body = Page<StoredTemplate>)))]
pub async fn list_templates(
    service: web::Data<Templates>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let (filter, cursor) = (query.filter()?, paging::cursor(query.cursor.as_deref())?);
    let (items, next) = service.list(filter, cursor, paging::limit(query.limit.as_deref())?).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Read a template
#[utoipa::path(get, path = "/api/v1/templates/{id}", operation_id = "get_template", tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template")),
    responses((status = 200, description = "The template in the version in use", body = StoredTemplate)))]
pub async fn get_template(service: web::Data<Templates>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}

/// Change a template
///
/// Other texts are its next version, and in use from then on. Texts that stay as they are make none.
#[utoipa::path(patch, path = "/api/v1/templates/{id}", operation_id = "patch_template", tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template")),
    request_body = TemplatePatch,
    responses((status = 200, description = "The template as it is now", body = StoredTemplate)))]
pub async fn patch_template(
    service: web::Data<Templates>,
    id: web::Path<String>,
    body: Json<TemplatePatch>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.patch(path_id(&id)?, body.0.into()).await?))
}

/// Delete a template with all its versions
///
/// Mailings and notifications that were made from it keep their texts.
#[utoipa::path(delete, path = "/api/v1/templates/{id}", operation_id = "delete_template", tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "Templates with a locale fall back to it"),
    ))]
pub async fn delete_template(service: web::Data<Templates>, id: web::Path<String>) -> Result<HttpResponse> {
    service.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Which versions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VersionsQuery {
    /// How many to answer, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<i32>, nullable = false)]
    cursor: Option<String>,
}

/// List the versions of a template
///
/// The newest first, a page at a time.
#[utoipa::path(get, path = "/api/v1/templates/{id}/versions", operation_id = "list_template_versions",
    tag = "templates", params(("id" = uuid::Uuid, Path, description = "The id of the template"), VersionsQuery),
    responses((status = 200, description = "A page of versions", body = Page<TemplateVersion>)))]
pub async fn list_template_versions(
    service: web::Data<Templates>,
    id: web::Path<String>,
    Query(query): Query<VersionsQuery>,
) -> Result<HttpResponse> {
    let (id, cursor) = (path_id(&id)?, paging::cursor(query.cursor.as_deref())?);
    let (items, next) = service.versions(id, cursor, paging::limit(query.limit.as_deref())?).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|version| version.to_string()) }))
}

fn version(text: &str) -> Result<i32> {
    text.parse().map_err(|_| Error::invalid("version", "must be a whole number"))
}

/// Read a version of a template
#[utoipa::path(get, path = "/api/v1/templates/{id}/versions/{version}", operation_id = "get_template_version",
    tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template"),
        ("version" = i32, Path, description = "Which version")),
    responses((status = 200, description = "The version", body = TemplateVersion)))]
pub async fn get_template_version(
    service: web::Data<Templates>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.version(path_id(&path.0)?, version(&path.1)?).await?))
}

/// Take an earlier version of a template again
///
/// Its texts are the next version, and in use from then on; none is made when they are in use already.
#[utoipa::path(post, path = "/api/v1/templates/{id}/versions/{version}/restore",
    operation_id = "restore_template_version", tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template"),
        ("version" = i32, Path, description = "Which version")),
    responses((status = 200, description = "The template as it is now", body = StoredTemplate)))]
pub async fn restore_template_version(
    service: web::Data<Templates>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.restore(path_id(&path.0)?, version(&path.1)?).await?))
}

/// Try a template with data
#[utoipa::path(post, path = "/api/v1/templates/{id}/preview", operation_id = "preview_template", tag = "templates",
    params(("id" = uuid::Uuid, Path, description = "The id of the template")),
    request_body = TrialBody,
    responses((status = 200, description = "What it says, or why it cannot", body = TemplatePreview)))]
pub async fn preview_template(
    service: web::Data<Templates>,
    id: web::Path<String>,
    body: Json<TrialBody>,
) -> Result<HttpResponse> {
    let (version, data) = body.0.into_parts()?;
    Ok(HttpResponse::Ok().json(service.preview(path_id(&id)?, version, data).await?))
}

/// Try texts with data
///
/// As for a template, which is not made.
#[utoipa::path(post, path = "/api/v1/templates/preview", operation_id = "preview_texts", tag = "templates",
    request_body = TextTrialBody,
    responses((status = 200, description = "What they say, or why they cannot", body = TemplatePreview)))]
pub async fn preview_texts(service: web::Data<Templates>, body: Json<TextTrialBody>) -> Result<HttpResponse> {
    let (channel, texts, data) = body.0.into_parts()?;
    Ok(HttpResponse::Ok().json(service.preview_texts(channel, texts, data).await?))
}
