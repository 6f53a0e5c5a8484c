//! The parameters of an upload.

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

/// How the file is read and applied.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// `true`: read and check the whole file and answer what would become of it, without storing anything.
    #[param(value_type = Option<bool>, nullable = false)]
    dry_run: Option<String>,
    /// `true`: a row with a wrong cell is rejected, instead of losing the cell with a warning.
    #[param(value_type = Option<bool>, nullable = false)]
    strict: Option<String>,
    /// The field that clients are known by: `phone_number`, `external_id` or `email`. By default the first of them that the
    /// file has.
    #[param(value_type = Option<MatchBy>, inline, nullable = false)]
    r#match: Option<String>,
    /// Contents of columns, by their headers: `Header:field`, `Header:attribute`, or `Header:-` to leave one out, with commas
    /// between the pairs. A pair with a comma in it is quoted as a whole.
    #[param(example = "phone:phone_number", nullable = false)]
    mapping: Option<String>,
}

/// How the body is packed.
pub(super) enum Packing {
    Plain,
    Gzip,
}

impl Packing {
    /// The body without its packing.
    pub(super) fn unpack(self, body: impl Read + Send + 'static) -> Box<dyn Read + Send> {
        match self {
            Self::Plain => Box::new(body),
            Self::Gzip => Box::new(Gunzip::new(body)),
        }
    }
}

impl ImportQuery {
    /// Reads the parameters, and the encoding that the content type names.
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
    // said of what was not looked at, and taken for windows-1252 by the standard
    let charset = charset.filter(|(_, label)| !label.trim_matches('"').eq_ignore_ascii_case("us-ascii"));
    let named = charset.map(|(_, label)| labelled(label)).transpose();
    named.map_err(|why| Error::Unsupported(format!("the charset of the Content-Type {why}")))
}

/// How `Content-Encoding` says that the body is packed.
pub(super) fn packing(request: &HttpRequest) -> Result<Packing> {
    let coding = request.headers().get(header::CONTENT_ENCODING).map(|v| v.to_str().unwrap_or("?"));
    match coding.unwrap_or("identity").trim().to_ascii_lowercase().as_str() {
        "identity" | "" => Ok(Packing::Plain),
        "gzip" | "x-gzip" => Ok(Packing::Gzip),
        _ => Err(Error::Unsupported("the Content-Encoding must be gzip, or none".into())),
    }
}
