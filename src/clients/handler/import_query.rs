//! The query parameters and headers of an upload.

use std::io::Read;
use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::http::header;
use serde::Deserialize;
use utoipa::IntoParams;

use super::gunzip::Gunzip;
use crate::clients::import::{ImportOptions, MatchBy, labelled};
use crate::error::{Complaints, Error, Result};
use crate::http::dry_run::flag;

/// The query parameters of an import.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// `true`: reads and checks the whole file and reports the result, without storing anything.
    #[param(value_type = Option<bool>, nullable = false)]
    dry_run: Option<String>,
    /// `true`: rejects a row with an invalid cell, instead of skipping the cell with a warning.
    #[param(value_type = Option<bool>, nullable = false)]
    strict: Option<String>,
    /// The field that identifies clients: `phone_number`, `external_id` or `email`. By default the first of them that
    /// the file has.
    #[param(value_type = Option<MatchBy>, inline, nullable = false)]
    r#match: Option<String>,
    /// The fields of columns, by their headers: `Header:field`, `Header:attribute`, or `Header:-` to skip a column,
    /// separated by commas. A pair that contains a comma is quoted as a whole.
    #[param(example = "phone:phone_number", nullable = false)]
    mapping: Option<String>,
}

/// The content coding of a body.
pub(super) enum Packing {
    Plain,
    Gzip,
}

impl Packing {
    /// Decodes the body.
    pub(super) fn unpack(self, body: impl Read + Send + 'static) -> Box<dyn Read + Send> {
        match self {
            Self::Plain => Box::new(body),
            Self::Gzip => Box::new(Gunzip::new(body)),
        }
    }
}

impl ImportQuery {
    /// Parses the parameters, and the encoding that the content type names.
    pub(super) fn options(self, request: &HttpRequest) -> Result<ImportOptions> {
        let mut wrong = Complaints::default();
        let is_dry_run = wrong.gather(flag("dry_run", self.dry_run.as_deref()))?.unwrap_or_default();
        let is_strict = wrong.gather(flag("strict", self.strict.as_deref()))?.unwrap_or_default();
        let match_by = parsed::<MatchBy>("match", self.r#match.as_deref(), &mut wrong);
        let mapping = parsed("mapping", self.mapping.as_deref(), &mut wrong).unwrap_or_default();
        wrong.finish()?;
        Ok(ImportOptions { match_by, is_strict, is_dry_run, mapping, encoding: encoding(request)? })
    }
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(
    name: &str,
    text: Option<&str>,
    wrong: &mut Complaints,
) -> Option<T> {
    text.and_then(|text| wrong.check(name, text.parse()))
}

/// The encoding of `text/csv; charset=…`.
fn encoding(request: &HttpRequest) -> Result<Option<&'static encoding_rs::Encoding>> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    if !parts.next().is_some_and(|mime| mime.eq_ignore_ascii_case("text/csv")) {
        let why = "the body must be CSV, with Content-Type: text/csv";
        return Err(Error::Unsupported(why.into()));
    }
    let mut parameters = parts.filter_map(|parameter| parameter.split_once('='));
    let charset = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    // clients declare us-ascii without looking, and the Encoding standard maps it to windows-1252
    let charset = charset.filter(|(_, label)| !label.trim_matches('"').eq_ignore_ascii_case("us-ascii"));
    let named = charset.map(|(_, label)| labelled(label)).transpose();
    named.map_err(|why| Error::Unsupported(format!("the charset of the Content-Type {why}")))
}

/// Parses `Content-Encoding`.
pub(super) fn packing(request: &HttpRequest) -> Result<Packing> {
    let coding = request.headers().get(header::CONTENT_ENCODING).map(|v| v.to_str().unwrap_or("?"));
    match coding.unwrap_or("identity").trim().to_ascii_lowercase().as_str() {
        "identity" | "" => Ok(Packing::Plain),
        "gzip" | "x-gzip" => Ok(Packing::Gzip),
        _ => Err(Error::Unsupported("the Content-Encoding must be gzip or absent".into())),
    }
}
