//! The HTTP handlers of import jobs: `/api/v1/imports`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::usecase::Imports;
use super::views::{ImportJobView, ImportJobWithFindingsView};
use crate::clients::import::Rejection;
use crate::db::types::ImportId;
use crate::error::Result;
use crate::http::export;
use crate::http::json::{Query, path_id};
use crate::http::operations::{Operations, operations};
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_imports: ClientsRead,
        get_import: ClientsRead,
        get_import_rejections: ClientsRead,
    ]
}

/// The query parameters of the list of imports.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportsQuery {
    /// The largest number of items to return, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<ImportId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// List imports
///
/// Lists the imports that run or ran as jobs, the latest first. They are kept for 30 days.
#[utoipa::path(get, path = "/api/v1/imports", operation_id = "list_imports", tag = "clients", params(ImportsQuery),
    responses((status = 200, description = "A page of imports", body = Page<ImportJobView>)))]
pub async fn list_imports(
    imports: web::Data<Imports>,
    Query(query): Query<ImportsQuery>,
) -> Result<HttpResponse> {
    let cursor = paging::cursor(query.cursor.as_deref())?;
    let limit = paging::limit(query.limit.as_deref())?;
    let (items, next) = imports.list(cursor, limit, ImportJobView::from).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Read an import
///
/// Returns the progress of an import and, once it has ended, its first rejections.
#[utoipa::path(get, path = "/api/v1/imports/{id}", operation_id = "get_import", tag = "clients",
    params(("id" = String, Path, format = Uuid, description = "The id of the import")),
    responses((status = 200, description = "The import", body = ImportJobWithFindingsView)))]
pub async fn get_import(imports: web::Data<Imports>, id: web::Path<String>) -> Result<HttpResponse> {
    let (job, findings) = imports.get(path_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(ImportJobWithFindingsView { job: job.into(), findings }))
}

/// Read the rejections of an import
///
/// Returns the first 1000 errors of rejected rows as CSV, once the import has ended: line, field and reason.
#[utoipa::path(get, path = "/api/v1/imports/{id}/rejections", operation_id = "get_import_rejections", tag = "clients",
    params(("id" = String, Path, format = Uuid, description = "The id of the import")),
    responses((status = 200, description = "A header line, then one line for each error",
        body = String, content_type = "text/csv", example = "line,field,reason\n17,tag,must be 1 to 100 characters\n")))]
pub async fn get_import_rejections(
    imports: web::Data<Imports>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    let (_, findings) = imports.get(path_id(&id)?).await?;
    let rejected = findings.rejected;
    let columns = ["line", "field", "reason"].map(Into::into).to_vec();
    let read = move |_: Option<()>, _| {
        let rejected = rejected.clone();
        async move { Ok((rejected, None)) }
    };
    export::file(&request, ("rejections", columns), (None, u64::MAX), read, |one: &Rejection| {
        Ok(Some(vec![one.line.to_string().into(), one.field.as_str().into(), one.reason.as_str().into()]))
    })
    .await
}
