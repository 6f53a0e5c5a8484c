//! An import whose body is received completely before its first row is read: the idempotency key needs a digest of the
//! whole body, or the sender does not wait.

use std::fs::File;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};
use tokio::sync::OwnedSemaphorePermit;

use super::import_query::Packing;
use crate::clients::import::{ImportOptions, Stopped};
use crate::clients::jobs::model::ImportJob;
use crate::clients::jobs::usecase::{Imports, Receiving, Started, not_spooled};
use crate::clients::jobs::views::ImportJobView;
use crate::clients::jobs::work::Received;
use crate::error::{Error, Result};
use crate::http::bodies::Pace;
use crate::http::idempotency_header::{StreamedKey, respond};
use crate::http::prefer::{Preference, applied};
use crate::idempotency::{Created, IdempotentResponse};

/// The `Content-Length` above which a body is imported as a job, unless its sender asks to wait.
const LARGE: u64 = 64 * 1024 * 1024;
/// The size of the write buffer.
const BUFFER: usize = 256 * 1024;

/// The import of a body that is received completely first.
pub(super) struct Spooled {
    key: StreamedKey,
    /// True if the response is sent at the end of the import.
    waits: bool,
    preference: Preference,
}

impl Spooled {
    /// Returns `None` for a body that is imported while it arrives.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid key.
    pub(super) fn of(request: &HttpRequest, preference: Preference) -> Result<Option<Self>> {
        let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let is_large =
            announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > LARGE);
        let waits = match preference {
            Preference::Async => false,
            Preference::Wait(_) => true,
            Preference::None => !is_large,
        };
        let key = StreamedKey::with(request)?;
        Ok((key.is_given() || !waits).then_some(Self { key, waits, preference }))
    }

    /// Receives the body and imports it.
    pub(super) async fn import(
        mut self,
        imports: &Imports,
        body: web::Payload,
        (options, packing): (ImportOptions, Packing),
    ) -> std::result::Result<HttpResponse, Stopped> {
        let (file, size, place) = self.receive(imports, body).await.map_err(Stopped::at_once)?;
        let received = Received { source: packing.unpack(file), size, options, place };
        let begun = imports.begin(received, self.key.finish(), self.waits, accepted).await;
        let begun = begun.map_err(Stopped::at_once)?;
        let mut answer = match begun {
            Started::Before(answer) => respond(Created::<()>::Before(answer)),
            Started::Now(answer, _) if !self.waits => respond(Created::New((), answer)),
            Started::Now(_, outcome) => {
                let died = |_| Stopped::at_once(Error::internal("an import ended without an outcome"));
                HttpResponse::Ok().json(outcome.await.map_err(died)??)
            }
        };
        if self.preference == Preference::Async {
            applied(&mut answer, self.preference);
        }
        Ok(answer)
    }

    async fn receive(
        &mut self,
        imports: &Imports,
        mut body: web::Payload,
    ) -> Result<(File, u64, OwnedSemaphorePermit)> {
        let Receiving { file, place } = imports.receive()?;
        let most = imports.largest();
        let mut file = BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(file));
        let (mut pace, mut size) = (Pace::new(), 0);
        while let Some(part) = pace.next(&mut body).await? {
            size += part.len() as u64;
            if size > most {
                return Err(Error::TooLarge(format!(
                    "the file is larger than {most} bytes (IMPORT_MAX_SIZE)"
                )));
            }
            self.key.add(&part);
            file.write_all(&part).await.map_err(not_spooled)?;
        }
        file.flush().await.map_err(not_spooled)?;
        file.rewind().await.map_err(not_spooled)?;
        let file = file.into_inner().into_std().await;
        Ok((file, size, place))
    }
}

/// Returns the response for a caller that does not wait for the import.
fn accepted(job: &ImportJob) -> Result<IdempotentResponse> {
    let path = format!("/api/v1/imports/{}", job.id);
    IdempotentResponse::new(202, Some(path), &ImportJobView::from(job.clone()))
}
