//! The import over HTTP: it passes the body of a request to a thread that reads it.

use std::io::{self, Read};
use std::pin::pin;

use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use tokio::sync::mpsc;

use super::import_query::{ImportQuery, packing};
use super::spool::Spooled;
use crate::clients::import::{ImportReport, Stopped};
use crate::clients::jobs::usecase::Imports;
use crate::clients::jobs::views::ImportJobView;
use crate::clients::usecase::Clients;
use crate::error::Error;
use crate::http::bodies::Pace;
use crate::http::idempotency_header::KeyHeader;
use crate::http::json::Query;
use crate::http::prefer::{PreferHeader, Preference};
use crate::http::problem::Problem;

/// The largest number of parts of the body between the connection and the reader. A part is the result of one socket
/// read.
const PARTS_WAITING: usize = 16;

/// Import clients
///
/// Creates and updates clients from CSV, by phone number. The encoding, the separator and the header line are detected,
/// and the response reports them. Common column names in English, Russian and German are recognized; every other column
/// is an attribute. A column overwrites its field, an empty cell clears it, and a field without a column stays. An
/// invalid cell is skipped with a warning, an invalid row is rejected, and the import continues. The body is a stream
/// of any length, with or without `Content-Encoding: gzip`. Rows are committed a thousand at a time, and committed rows
/// stay even if the rest does not arrive. Sending a file again is safe.
///
/// With `Prefer: respond-async`, or with a `Content-Length` of more than 64 MiB and without `Prefer: wait`, the file is
/// received first and imported as a job. With an `Idempotency-Key` it is received first as well, and the response is
/// sent at the end of the import. A dry run is never a job.
#[utoipa::path(
    post,
    path = "/api/v1/clients/import",
    operation_id = "import_clients",
    tag = "clients",
    params(ImportQuery, KeyHeader, PreferHeader),
    request_body(
        content = String,
        content_type = "text/csv",
        description = "A header line, then one line for each client",
        example = "phone_number,tag,external_id,name\n79031234501,vip,crm-2001,Anna\n79161234502,,crm-2002,Boris\n"
    ),
    responses(
        (status = 200, description = "The result of the import", body = ImportReport),
        (status = 202, description = "The file is received and will be imported: the job, with its path in `Location`",
            body = ImportJobView, headers(("Location" = String, description = "The path of the import"))),
        (status = 400, description = "The body was cut off"),
        (status = 409, description = "An equal request with this key is running"),
        (status = 413, description = "The compressed body expands to more than 200 times its size, or the file is received first and is larger than `IMPORT_MAX_SIZE`"),
        (status = 415, description = "The body is not CSV, or its encoding is unknown"),
        (status = 422, description = "The file has no header line, or a parameter is invalid"),
        (status = 503, description = "The database became unavailable; the detail counts the rows committed before"),
    )
)]
pub async fn import_clients(
    clients: web::Data<Clients>,
    imports: web::Data<Imports>,
    query: Query<ImportQuery>,
    preference: Preference,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Stopped> {
    let options = query.0.options(&request).map_err(Stopped::at_once)?;
    let packing = packing(&request).map_err(Stopped::at_once)?;
    if !options.is_dry_run
        && let Some(spooled) = Spooled::of(&request, preference).map_err(Stopped::at_once)?
    {
        return spooled.import(&imports, body, (options, packing)).await;
    }
    let (sender, parts) = mpsc::channel(PARTS_WAITING);
    let upload = Upload { parts, part: Bytes::new() };
    // the body cannot leave this task; if the request is dropped, so is the sender, and the reader sees a cut body
    let mut import = pin!(clients.import(packing.unpack(upload), options));
    let outcome = tokio::select! {
        // a file without a header line is refused before the rest of the body arrives
        outcome = &mut import => outcome,
        () = forward(body, sender) => import.await,
    };
    let report = outcome.inspect_err(|stopped| {
        // the text of a 4xx may contain the caller's data; the request log has only the general error
        if stopped.status_code().is_server_error() {
            tracing::error!(error = %stopped, "import stopped");
        }
    })?;
    Ok(HttpResponse::Ok().json(report))
}

/// A part of the body; `None` is its end.
type Part = Option<Bytes>;

/// Forwards the body part by part, until it ends or the reader stops.
async fn forward(mut body: web::Payload, out: mpsc::Sender<io::Result<Part>>) {
    let mut pace = Pace::new();
    loop {
        // only the time spent waiting for the sender counts, because a slow database is not its fault
        let part = pace.next(&mut body).await.map_err(|error| match error {
            Error::TooSlow(why) => io::Error::new(io::ErrorKind::TimedOut, why),
            other => io::Error::other(other),
        });
        let is_last = !matches!(part, Ok(Some(_)));
        if out.send(part).await.is_err() || is_last {
            return;
        }
    }
}

/// The other end of [`forward`], for a thread that may block.
struct Upload {
    parts: mpsc::Receiver<io::Result<Part>>,
    part: Bytes,
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.blocking_recv() {
                Some(Ok(Some(part))) => self.part = part,
                Some(Ok(None)) => return Ok(0),
                Some(Err(e)) => return Err(e),
                // a cut row must not be taken for a complete one
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = self.part.len().min(buffer.len());
        let now = self.part.split_to(count);
        if let Some(room) = buffer.get_mut(..count) {
            room.copy_from_slice(&now);
        }
        Ok(count)
    }
}

impl ResponseError for Stopped {
    fn status_code(&self) -> StatusCode {
        self.why.status_code()
    }

    /// The general problem of its cause, with the committed rows in the detail: the general detail says that nothing
    /// was changed.
    fn error_response(&self) -> HttpResponse {
        let mut problem = Problem::from(&self.why);
        let ImportReport { created, updated, rejected_count, .. } = &self.report;
        let done = format!(
            "{created} clients were already created and {updated} updated ({rejected_count} rows were rejected), up to \
             line {}",
            self.line
        );
        problem.detail = match &self.why {
            Error::Unavailable(_) | Error::OutcomeUnknown(_) => format!(
                "the database is unavailable; {done}; send the file again in a moment: rows that were imported are \
                 only updated"
            ),
            _ if self.line > 0 => format!("{}; {done}", problem.detail),
            _ => problem.detail,
        };
        problem.response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads these parts with a small buffer.
    fn read(parts: Vec<io::Result<Part>>) -> (String, io::Result<()>) {
        let (sender, receiver) = mpsc::channel(parts.len().max(1));
        parts.into_iter().for_each(|part| sender.try_send(part).unwrap());
        drop(sender);
        let mut upload = Upload { parts: receiver, part: Bytes::new() };
        let (mut text, mut buffer) = (String::new(), [0; 3]);
        loop {
            match upload.read(&mut buffer) {
                Ok(0) => return (text, Ok(())),
                Ok(count) => text.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
                Err(e) => return (text, Err(e)),
            }
        }
    }

    fn part(text: &'static str) -> io::Result<Part> {
        Ok(Some(Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn a_body_is_read_to_its_end_whatever_its_parts() {
        let (text, end) = read(vec![part("abcdefgh"), part(""), part("i"), Ok(None)]);
        assert_eq!(text, "abcdefghi");
        assert!(end.is_ok());
    }

    #[test]
    fn a_body_that_breaks_off_does_not_pass_for_a_whole_one() {
        let (text, end) = read(vec![part("abcd")]);
        assert_eq!(text, "abcd");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (_, end) = read(vec![part("abcd"), Err(io::ErrorKind::TimedOut.into())]);
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
