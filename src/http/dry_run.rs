//! The query parameter `dry_run` of operations that store or send something.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::Deserialize;
use utoipa::IntoParams;

use super::json::Query;
use crate::error::{Error, Result};
use crate::idempotency::{IdempotencyKey, Mode};

/// The parameter, for the document.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DryRunQuery {
    /// `true`: check the request and return 200 with the result, without storing or sending anything.
    #[param(value_type = Option<bool>, nullable = false)]
    dry_run: Option<String>,
}

/// True for a request that is only checked.
#[derive(Debug, Clone, Copy)]
pub struct DryRun(pub bool);

impl DryRun {
    /// Returns the mode of a request with this key.
    pub fn mode(self, key: Option<IdempotencyKey>) -> Mode {
        if self.0 { Mode::DryRun } else { Mode::Commit(key) }
    }
}

impl FromRequest for DryRun {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let query = Query::<DryRunQuery>::from_request(request, payload).into_inner();
        ready(query.and_then(|Query(query)| flag("dry_run", query.dry_run.as_deref()).map(Self)))
    }
}

/// Reads a boolean parameter; false if it is absent.
///
/// # Errors
/// [`Error::Invalid`] for any other value.
pub fn flag(name: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::invalid(name, "must be true or false")),
    }
}
