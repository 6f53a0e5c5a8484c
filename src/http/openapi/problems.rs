//! The problems that any operation may return, declared once. The inputs of an operation decide which of them it has.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::{ContentBuilder, Header, Object, OpenApi, Ref, RefOr, Response, ResponseBuilder, Type};

use crate::http::access::UNSUBSCRIBE;

const PROBLEM: &str = "application/problem+json";

/// A problem of the document's components.
struct CommonProblem {
    status: &'static str,
    name: &'static str,
    description: &'static str,
    header: Option<(&'static str, Type, &'static str)>,
    /// Returns true if the operation of this path may return it.
    fits: fn(&str, &Operation) -> bool,
    /// True if only an operation that may change something returns it.
    of_changes: bool,
}

const COMMON: &[CommonProblem] = &[
    CommonProblem {
        status: "400",
        name: "Malformed",
        description: "The body is not JSON",
        header: None,
        fits: |_, operation| operation.request_body.is_some(),
        of_changes: false,
    },
    CommonProblem {
        status: "401",
        name: "Unauthorized",
        description: "The API key is missing or wrong",
        header: Some(("WWW-Authenticate", Type::String, "`Bearer`")),
        fits: |_, _| true,
        of_changes: false,
    },
    CommonProblem {
        status: "403",
        name: "CrossSiteRequest",
        description: "The browser sent the request from a page of another site",
        header: None,
        // mail programs post to the link of a mail
        fits: |path, _| !path.starts_with(UNSUBSCRIBE),
        of_changes: true,
    },
    CommonProblem {
        status: "404",
        name: "NotFound",
        description: "No resource has this id",
        header: None,
        fits: |path, _| path.contains('{'),
        of_changes: false,
    },
    CommonProblem {
        status: "408",
        name: "RequestTimeout",
        description: "The body arrived too slowly",
        header: None,
        fits: |_, operation| operation.request_body.is_some(),
        of_changes: false,
    },
    CommonProblem {
        status: "413",
        name: "TooLarge",
        description: "The body is larger than 1 MiB",
        header: None,
        fits: |_, operation| operation.request_body.is_some(),
        of_changes: false,
    },
    CommonProblem {
        status: "415",
        name: "UnsupportedMediaType",
        description: "The `Content-Type` of the body is not JSON",
        header: None,
        fits: |_, operation| operation.request_body.is_some(),
        of_changes: false,
    },
    CommonProblem {
        status: "421",
        name: "MisdirectedRequest",
        description: "`Host` is not a name of this service",
        header: None,
        fits: |_, _| true,
        of_changes: false,
    },
    CommonProblem {
        status: "422",
        name: "Invalid",
        description: "Validation failed: `errors` names each wrong field and the accepted values",
        header: None,
        fits: |_, operation| operation.request_body.is_some() || has_parameters(operation),
        of_changes: false,
    },
    CommonProblem {
        status: "429",
        name: "TooManyWrongKeys",
        description: "Too many wrong keys came from this address",
        header: Some(("Retry-After", Type::Integer, "Seconds to wait before the request is repeated")),
        fits: |_, _| true,
        of_changes: false,
    },
    CommonProblem {
        status: "503",
        name: "Unavailable",
        description: "The database is unavailable or the service is overloaded: nothing was changed, unless `type` is \
             `/problems/outcome-unknown`; then the request may have taken effect, and repeating it with the same \
             `Idempotency-Key` returns the outcome",
        header: Some(("Retry-After", Type::Integer, "Seconds to wait before the request is repeated")),
        fits: |_, _| true,
        of_changes: false,
    },
];

fn has_parameters(operation: &Operation) -> bool {
    operation.parameters.as_ref().is_some_and(|parameters: &Vec<RefOr<Parameter>>| !parameters.is_empty())
}

/// Adds [`COMMON`] where an operation declares nothing of its own, and the body of every other problem.
pub(super) struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut OpenApi) {
        for (path, item) in &mut document.paths.paths {
            if let Some(operation) = &mut item.get {
                complete(path, operation, false);
            }
            let changes = [&mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
            for operation in changes.into_iter().flatten() {
                complete(path, operation, true);
            }
        }
        let components = document.components.get_or_insert_default();
        for common in COMMON {
            components.responses.insert(common.name.to_owned(), response(common).into());
        }
    }
}

fn complete(path: &str, operation: &mut Operation, changes: bool) {
    // the probes need no key and always respond
    if operation.security.is_some() {
        return;
    }
    let fits = |common: &&CommonProblem| (changes || !common.of_changes) && (common.fits)(path, operation);
    for common in COMMON.iter().filter(fits).collect::<Vec<_>>() {
        let known = Ref::from_response_name(common.name);
        operation.responses.responses.entry(common.status.to_owned()).or_insert(RefOr::Ref(known));
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
            && response.content.is_empty()
        {
            response.content.insert(PROBLEM.to_owned(), problem().into());
        }
    }
}

fn problem() -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build()
}

fn response(common: &CommonProblem) -> Response {
    let mut response = ResponseBuilder::new().description(common.description).content(PROBLEM, problem());
    if let Some((name, kind, description)) = &common.header {
        let mut header = Header::new(Object::with_type(kind.clone()));
        header.description = Some((*description).to_owned());
        response = response.header(*name, header);
    }
    response.build()
}
