//! The response header of replayed requests.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::{Header, ObjectBuilder, OpenApi, RefOr, Type};

use crate::http::idempotency_header;

const DESCRIPTION: &str = "`true` if this is the stored response of an earlier, equal request with the same key: \
    nothing was created now, and the resource may have been changed or deleted since. Absent otherwise";

/// Adds `Idempotency-Replayed` to the success responses of every operation that takes an `Idempotency-Key`.
pub(super) struct Replays;

impl Modify for Replays {
    fn modify(&self, document: &mut OpenApi) {
        let posts = document.paths.paths.values_mut().filter_map(|item| item.post.as_mut());
        for operation in posts.filter(|operation| takes_a_key(operation)) {
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && status.starts_with('2')
                {
                    response.headers.insert(idempotency_header::REPLAYED_NAME.to_owned(), header().into());
                }
            }
        }
    }
}

fn takes_a_key(operation: &Operation) -> bool {
    let is_key = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => parameter.name == idempotency_header::KEY_NAME,
        RefOr::Ref(_) => false,
    };
    operation.parameters.iter().flatten().any(is_key)
}

fn header() -> Header {
    let mut header =
        Header::new(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true"])).build());
    header.description = Some(DESCRIPTION.to_owned());
    header
}
