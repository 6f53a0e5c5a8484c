//! Import and export of suppressions as CSV.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use csv::{ReaderBuilder, StringRecord, Terminator, Trim};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::SuppressionBody;
use crate::db::types::SuppressionId;
use crate::error::{Complaints, Error, FieldError, Result};
use crate::http::json::{Query, time};
use crate::http::operations::{Operations, operations};
use crate::http::{bodies, export};
use crate::kinds::{ChannelKind, ChannelToPeople};
use crate::sheet;
use crate::suppressions::model::{NewSuppression, Suppression, SuppressionFilter, SuppressionReason};
use crate::suppressions::usecase::{FileRow, Suppressions};

/// The largest size of a file in bytes.
const LARGEST_FILE: usize = 16 * 1024 * 1024;
/// The number of listed rejections; more are only counted.
const LISTED: usize = 1000;
const COLUMNS: [&str; 7] = ["channel", "address", "group", "reason", "since", "source", "note"];

/// The query parameters of an import: defaults for rows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// The channel of rows without a channel.
    #[param(value_type = Option<ChannelToPeople>, inline, nullable = false)]
    channel: Option<String>,
    /// The reason of rows without a reason; `imported` if absent.
    #[param(value_type = Option<SuppressionReason>, inline, nullable = false)]
    reason: Option<String>,
}

/// The result of an import.
#[derive(Debug, Serialize, ToSchema)]
pub struct SuppressionImport {
    /// The number of new suppressions.
    created: u64,
    /// The number of rows whose suppression existed already.
    known: u64,
    /// The first 1000 errors of rejected rows.
    rejected: Vec<SuppressionRejection>,
    /// The number of rows that were rejected.
    rejected_count: u64,
}

/// An error of a row.
#[derive(Debug, Serialize, ToSchema)]
pub struct SuppressionRejection {
    /// The line of the file on which the row begins; the header is line 1.
    line: u64,
    /// The column, or `row` if the error concerns the whole row.
    field: String,
    /// The error and its remedy.
    reason: String,
}

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        import_suppressions: SuppressionsWrite,
    ]
}

/// Import suppressions
///
/// Imports suppressions from CSV. The first line names the columns: `address`, and any of `channel`, `group`, `reason`,
/// `since`, `source` and `note`. Invalid rows are rejected, and the import continues. Sending a file again changes
/// nothing.
#[utoipa::path(post, path = "/api/v1/suppressions/import", operation_id = "import_suppressions", tag = "suppressions",
    params(ImportQuery),
    request_body(content = String, content_type = "text/csv", description = "Up to 16 MiB",
        example = "channel,address,reason\nemail,dora@example.com,unsubscribed\nsms,+79031234567,manual\n"),
    responses(
        (status = 200, description = "The result of the import", body = SuppressionImport),
        (status = 413, description = "The body is larger than 16 MiB"),
        (status = 415, description = "The Content-Type is not CSV"),
        (status = 422, description = "The first line does not name the columns"),
    ))]
pub async fn import_suppressions(
    suppressions: web::Data<Suppressions>,
    query: Query<ImportQuery>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind.and_then(|kind| kind.split(';').next()).is_none_or(|kind| kind.trim() != "text/csv") {
        return Err(Error::Unsupported("the body must be CSV, with Content-Type: text/csv".into()));
    }
    let mut wrong = Complaints::default();
    let ImportQuery { channel, reason } = query.0;
    if let Some(word) = &channel {
        wrong.check("channel", ChannelKind::to_people(word));
    }
    let reason = reason.and_then(|word| wrong.check("reason", word.parse()));
    wrong.finish()?;
    let body = bodies::read(request, body, LARGEST_FILE).await?;
    let defaults = (reason.unwrap_or(SuppressionReason::Imported), channel.as_deref());
    let rows = rows(&body, defaults)?;
    drop(body);
    let imported = suppressions.import(rows).await?;
    let listed = imported.rejected.into_iter().take(LISTED);
    let shown = |(line, FieldError { field, reason })| SuppressionRejection { line, field, reason };
    Ok(HttpResponse::Ok().json(SuppressionImport {
        created: imported.created,
        known: imported.known,
        rejected: listed.map(shown).collect(),
        rejected_count: imported.rejected_count,
    }))
}

/// Parses the rows of a file.
fn rows(body: &[u8], defaults: (SuppressionReason, Option<&str>)) -> Result<Vec<FileRow>> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    // the terminator is \n only: with \r\n the reader would count lines from the middle of a line end. Trimming removes
    // the \r.
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .trim(Trim::All)
        .terminator(Terminator::Any(b'\n'))
        .from_reader(body);
    let header = reader.headers().map_err(|e| Error::Malformed(format!("the file is not CSV: {e}")))?.clone();
    let names: Vec<String> = header.iter().map(str::to_lowercase).collect();
    if let Some(unknown) = names.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
        return Err(Error::invalid(unknown, format!("is not a column; use {}", COLUMNS.join(", "))));
    }
    if !names.iter().any(|name| name == "address") {
        return Err(Error::invalid("address", "is missing: the first line must name the columns"));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let (line, row) = match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                (line, row(&record, &names, defaults))
            }
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                (line, Err(vec![FieldError::new("row", "is not CSV in UTF-8")]))
            }
        };
        rows.push((line, row));
    }
    Ok(rows)
}

fn row(
    record: &StringRecord,
    names: &[String],
    (reason, channel): (SuppressionReason, Option<&str>),
) -> std::result::Result<NewSuppression, Vec<FieldError>> {
    let cell = |name: &str| {
        let at = names.iter().position(|other| other == name)?;
        record.get(at).map(sheet::unguard).filter(|cell| !cell.is_empty()).map(str::to_owned)
    };
    let body = SuppressionBody {
        channel: cell("channel").or(channel.map(str::to_owned)).unwrap_or_default(),
        address: cell("address").unwrap_or_default(),
        group: cell("group"),
        reason: cell("reason"),
        source: cell("source"),
        note: cell("note"),
    };
    let since = cell("since").map(|text| time(&text)).transpose();
    let read = body.into_new((reason, "import"));
    match (read, since) {
        (Ok(new), Ok(since)) => Ok(NewSuppression { since, ..new }),
        (Err(Error::Invalid(fields)), _) => Err(fields),
        (Err(other), _) => Err(vec![FieldError::new("row", other.to_string())]),
        (Ok(_), Err(why)) => Err(vec![FieldError::new("since", why)]),
    }
}

/// Returns the matching suppressions as a file.
///
/// # Errors
/// Those of the first page.
pub(super) async fn export(
    request: &HttpRequest,
    suppressions: Arc<Suppressions>,
    filter: SuppressionFilter,
    window: (Option<SuppressionId>, u64),
) -> Result<HttpResponse> {
    let read = move |cursor, count| {
        let (suppressions, filter) = (Arc::clone(&suppressions), filter.clone());
        async move { suppressions.list(filter, cursor, count).await }
    };
    let columns = COLUMNS.iter().map(|name| (*name).into()).collect();
    export::file(request, ("suppressions", columns), window, read, |one| Ok(cells(one))).await
}

/// Returns the cells of a suppression; `None` if its owner was erased, because it has no address then.
fn cells(one: &Suppression) -> Option<Vec<Cow<'_, str>>> {
    let address = one.address.as_deref()?;
    let optional = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    Some(vec![
        one.channel.as_str().into(),
        address.into(),
        optional(&one.group).into(),
        one.reason.as_str().into(),
        one.since.to_string().into(),
        one.source.as_str().into(),
        optional(&one.note).into(),
    ])
}
