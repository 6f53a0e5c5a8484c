//! Suppressions as CSV, in and out.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use csv::{ReaderBuilder, StringRecord, Terminator, Trim, WriterBuilder};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::SuppressionBody;
use crate::db::types::SuppressionId;
use crate::error::{Complaints, Error, FieldError, Result};
use crate::http::bodies;
use crate::http::json::{Query, time};
use crate::kinds::{ChannelKind, ChannelToPeople};
use crate::suppressions::model::{NewSuppression, Suppression, SuppressionFilter, SuppressionReason};
use crate::suppressions::usecase::{FileRow, Suppressions};

/// Bytes of a file.
const LARGEST_FILE: usize = 16 * 1024 * 1024;
/// Rejections that are listed; the others are counted.
const LISTED: usize = 1000;
/// Suppressions that an export reads at once.
const AT_ONCE: i64 = 1000;
const COLUMNS: [&str; 7] = ["channel", "address", "group", "reason", "since", "source", "note"];

/// The parts of rows that a file does not say itself.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// The channel of rows that name none.
    #[param(value_type = Option<ChannelToPeople>, inline, nullable = false)]
    channel: Option<String>,
    /// The reason of rows that name none; `imported` when absent.
    #[param(value_type = Option<SuppressionReason>, inline, nullable = false)]
    reason: Option<String>,
}

/// The outcome of an import, by its rows.
#[derive(Debug, Serialize, ToSchema)]
pub struct SuppressionImport {
    /// Suppressions that are new.
    created: u64,
    /// Rows whose suppression was there already.
    known: u64,
    /// Complaints about the rejected rows, the first 1000.
    rejected: Vec<SuppressionRejection>,
    /// How many rows were rejected.
    rejected_count: u64,
}

/// One thing wrong with one row.
#[derive(Debug, Serialize, ToSchema)]
pub struct SuppressionRejection {
    /// The line of the file that the row begins on; the names of the columns are line 1.
    line: u64,
    /// The column, or `row` when the row as a whole is wrong.
    field: String,
    /// The fault, and what would be right.
    reason: String,
}

/// Import suppressions
///
/// From CSV whose first line names the columns: `address`, and any of `channel`, `group`, `reason`, `since`, `source` and
/// `note`. A wrong row is rejected and the rest goes on. Sending a file again changes nothing.
#[utoipa::path(post, path = "/api/v1/suppressions/import", operation_id = "import_suppressions", tag = "suppressions",
    params(ImportQuery),
    request_body(content = String, content_type = "text/csv", description = "Up to 16 MiB",
        example = "channel,address,reason\nemail,dora@example.com,unsubscribed\nsms,+79031234567,manual\n"),
    responses(
        (status = 200, description = "What became of the rows", body = SuppressionImport),
        (status = 413, description = "The body is larger than 16 MiB"),
        (status = 415, description = "The body is not called CSV"),
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

/// Reads the rows of a file.
fn rows(body: &[u8], defaults: (SuppressionReason, Option<&str>)) -> Result<Vec<FileRow>> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    // ended by \n alone: with \r\n the reader would count lines from the middle of an end; trimming takes the \r
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .trim(Trim::All)
        .terminator(Terminator::Any(b'\n'))
        .from_reader(body);
    let header = reader.headers().map_err(|e| Error::Malformed(format!("the file is not CSV: {e}")))?.clone();
    let names: Vec<String> = header.iter().map(str::to_lowercase).collect();
    if let Some(unknown) = names.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
        return Err(Error::invalid(unknown, format!("is not a column: there are {}", COLUMNS.join(", "))));
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
        record.get(at).filter(|cell| !cell.is_empty()).map(str::to_owned)
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

/// Returns whether a list is wanted as a file.
pub(super) fn is_wanted(request: &HttpRequest) -> bool {
    let accepted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| {
        accepted.split(',').any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/csv"))
    })
}

/// An export as far as it has come: the cursor of the next page, none at its end.
struct Export {
    suppressions: Arc<Suppressions>,
    filter: SuppressionFilter,
    next: Option<Option<SuppressionId>>,
    is_first: bool,
}

/// The file, a page at a time. A database that goes away breaks the answer off.
pub(super) fn export(suppressions: Arc<Suppressions>, filter: SuppressionFilter) -> HttpResponse {
    let export = Export { suppressions, filter, next: Some(None), is_first: true };
    let pages = stream::try_unfold(export, |mut export| async move {
        let Some(cursor) = export.next else { return Ok(None) };
        let (items, next) = export.suppressions.list(export.filter.clone(), cursor, AT_ONCE).await?;
        let text = text(&items, std::mem::take(&mut export.is_first))?;
        export.next = next.map(Some);
        Ok::<_, Error>(Some((Bytes::from(text), export)))
    });
    HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"suppressions.csv\""))
        .streaming(pages)
}

fn text(items: &[Suppression], is_first: bool) -> Result<Vec<u8>> {
    let failed = |e: csv::Error| Error::Internal(e.into());
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    if is_first {
        writer.write_record(COLUMNS).map_err(failed)?;
    }
    for one in items {
        // whose owner was erased has no address to write
        let Some(address) = &one.address else { continue };
        let since = one.since.to_string();
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        let (group, note) = (optional(&one.group), optional(&one.note));
        let cells = [one.channel.as_str(), address, &group, one.reason.as_str(), &since, &one.source, &note];
        writer.write_record(cells).map_err(failed)?;
    }
    writer.into_inner().map_err(|e| Error::internal(format!("an export could not be written: {e}")))
}
