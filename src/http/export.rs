//! Exports of lists as CSV files: all matching rows, read and sent one page at a time. Each page is a separate read, so
//! a slow reader holds one page of text, within the memory of large responses, and no database connection.

use std::borrow::Cow;
use std::future::Future;

use actix_web::http::header;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use csv::{Terminator, WriterBuilder};
use futures_util::stream;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::{PIECE, ResponseMemory};
use crate::error::{Error, Result};
use crate::sheet;

/// The number of rows in a page.
const AT_ONCE: i64 = 1000;

/// The columns of a file, in order.
pub type Columns = Vec<Cow<'static, str>>;

/// Returns true if the caller wants a list as a file: `Accept` has `text/csv`, with a quality not below that of JSON.
pub fn is_wanted(request: &HttpRequest) -> bool {
    let accepted = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    likes_csv(accepted)
}

fn likes_csv<'v>(accepted: impl Iterator<Item = &'v str>) -> bool {
    let (mut csv, mut json) = (0.0, 0.0);
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let kind = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").map(|q| q.parse().unwrap_or(0.0)));
        match kind.as_str() {
            "text/csv" => csv = quality.unwrap_or(1.0),
            "application/json" => json = quality.unwrap_or(1.0),
            _ => {}
        }
    }
    csv > 0.0 && csv >= json
}

/// Parses the `limit` of a file, the greatest number of rows; unlimited if it is absent.
///
/// # Errors
/// [`Error::Invalid`] for anything but a positive whole number.
pub fn limit(asked: Option<&str>) -> Result<u64> {
    let wrong = || Error::invalid("limit", "must be a positive whole number: the greatest number of rows");
    asked.map_or(Ok(u64::MAX), |text| text.parse().ok().filter(|rows| *rows > 0).ok_or_else(wrong))
}

/// Returns the cells of a row in the columns' order, with the values of its JSON form: a string as it is, an empty cell
/// for null and for an absent field.
///
/// # Errors
/// None in practice: rows are objects of strings and numbers.
pub fn cells(row: &impl Serialize, columns: &[&str]) -> Result<Vec<Cow<'static, str>>> {
    let row = serde_json::to_value(row).map_err(|e| Error::Internal(e.into()))?;
    let cell = |name: &&str| match row.get(name) {
        None | Some(Value::Null) => Cow::default(),
        Some(Value::String(text)) => text.clone().into(),
        Some(other) => other.to_string().into(),
    };
    Ok(columns.iter().map(cell).collect())
}

/// Returns a response with a file of this name. `read` takes a cursor and the size of a page, and returns the rows and
/// the cursor of the next page. `write` returns the cells of a row, or none if the row is omitted.
///
/// # Errors
/// Errors of the first page, and [`Error::Busy`] if there is no memory for it. If a later page fails, the chunked
/// response ends without its last chunk, so the reader notices.
pub async fn file<T, K, F, W>(
    request: &HttpRequest,
    (name, columns): (&str, Columns),
    (first, most): (Option<K>, u64),
    read: impl Fn(Option<K>, i64) -> F + 'static,
    write: W,
) -> Result<HttpResponse>
where
    T: 'static,
    K: 'static,
    F: Future<Output = Result<(Vec<T>, Option<K>)>>,
    W: Fn(&T) -> Result<Option<Vec<Cow<'_, str>>>> + 'static,
{
    let mut export = Export { columns, next: Some(first), left: most, read, write };
    let memory = request.app_data::<web::Data<ResponseMemory>>().cloned();
    let page = export.page().await?.unwrap_or_default();
    let room = memory.as_ref().map(|memory| memory.take(page.len())).transpose()?;
    let pieces = stream::try_unfold((Part { page, room }, export), move |(mut part, mut export)| {
        let memory = memory.clone();
        async move {
            while part.page.is_empty() {
                part.room = None;
                let next =
                    export.page().await.inspect_err(|error| tracing::error!(%error, "export aborted"))?;
                let Some(page) = next else { return Ok(None) };
                let room = match &memory {
                    Some(memory) => memory.wait(page.len()).await,
                    None => None,
                };
                part = Part { page, room };
            }
            let length = part.page.len().min(PIECE);
            Ok::<_, Error>(Some((part.page.split_to(length), (part, export))))
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.csv\"")))
        .streaming(pieces))
}

/// The unsent rest of a page, with its reserved memory.
struct Part {
    page: Bytes,
    room: Option<OwnedSemaphorePermit>,
}

/// The progress of an export.
struct Export<K, R, W> {
    /// The columns; empty once they are written.
    columns: Columns,
    /// The cursor of the next page; none at the end.
    next: Option<Option<K>>,
    /// The number of rows that may still follow.
    left: u64,
    read: R,
    write: W,
}

impl<K, R, W> Export<K, R, W> {
    /// Reads the next page; none at the end.
    async fn page<T, F>(&mut self) -> Result<Option<Bytes>>
    where
        R: Fn(Option<K>, i64) -> F,
        F: Future<Output = Result<(Vec<T>, Option<K>)>>,
        W: Fn(&T) -> Result<Option<Vec<Cow<'_, str>>>>,
    {
        let Some(cursor) = self.next.take() else { return Ok(None) };
        let count = i64::try_from(self.left).unwrap_or(AT_ONCE).min(AT_ONCE);
        let (rows, next) = (self.read)(cursor, count).await?;
        self.left = self.left.saturating_sub(rows.len() as u64);
        self.next = next.filter(|_| self.left > 0).map(Some);
        let failed = |e: csv::Error| Error::Internal(e.into());
        let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
        let columns = std::mem::take(&mut self.columns);
        if !columns.is_empty() {
            writer.write_record(columns.iter().map(|name| name.as_bytes())).map_err(failed)?;
        }
        for row in &rows {
            if let Some(cells) = (self.write)(row)? {
                for cell in &cells {
                    writer.write_field(sheet::guard(cell).as_bytes()).map_err(failed)?;
                }
                writer.write_record(None::<&[u8]>).map_err(failed)?;
            }
        }
        let text = writer.into_inner().map_err(|e| Error::internal(format!("export failed: {e}")))?;
        Ok(Some(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_for_those_who_like_it_no_less_than_json() {
        for accepted in
            ["text/csv", "text/csv, */*", "Text/CSV;charset=utf-8", "application/json;q=0.5, text/csv;q=0.9"]
        {
            assert!(likes_csv([accepted].into_iter()), "{accepted}");
        }
        for accepted in
            ["", "*/*", "text/*", "application/json", "text/csv;q=0", "application/json, text/csv;q=0.9"]
        {
            assert!(!likes_csv([accepted].into_iter()), "{accepted}");
        }
        assert!(likes_csv(["text/html", "text/csv"].into_iter()));
    }

    #[test]
    fn a_files_limit_has_no_upper_bound() {
        assert_eq!(limit(None).unwrap(), u64::MAX);
        assert_eq!(limit(Some("5000")).unwrap(), 5000);
        for text in ["0", "-1", "x", "", "1.5"] {
            assert!(limit(Some(text)).is_err(), "{text}");
        }
    }
}
