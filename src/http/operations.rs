//! The table of operations. Each endpoint is declared once: its handler's `#[utoipa::path]` has the path, the method
//! and the documentation, and the domain's table adds the scope. Routing, the `Allow` header and the OpenAPI document
//! are derived from it.

use std::collections::BTreeMap;

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Responder, Route, guard, web};
use utoipa::Path;
use utoipa::openapi::path::{HttpMethod, Operation as Description};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{OpenApi, RefOr, SecurityRequirement};

use super::routing::method_not_allowed;

/// The order of methods in `Allow`.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A part of the API that a caller may use. The only key at present grants all scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Scope {
    /// Needs no key: probes, and paths that contain a token.
    Public,
    ClientsRead,
    ClientsWrite,
    SuppressionsRead,
    SuppressionsWrite,
    MailingsRead,
    MailingsWrite,
    /// Pauses, resumes and cancels mailings.
    MailingsSend,
    NotificationsRead,
    NotificationsWrite,
    EventsRead,
    EventsWrite,
    /// Also reads routes.
    TemplatesRead,
    /// Also writes routes.
    TemplatesWrite,
    RequestsRead,
    RequestsWrite,
    CredentialsWrite,
    /// Also granted by a token of the inbox's user.
    InboxRead,
    /// Also granted by a token of the inbox's user.
    InboxWrite,
    DeadLettersRead,
    DeadLettersReplay,
    MetricsRead,
    Admin,
}

type Schemas = Vec<(String, RefOr<Schema>)>;

/// An operation: a handler and its declaration.
struct Operation {
    path: fn() -> String,
    methods: fn() -> Vec<HttpMethod>,
    description: fn() -> Description,
    tags: fn() -> Vec<&'static str>,
    schemas: fn(&mut Schemas),
    scope: Scope,
    route: Route,
}

/// Operations of one or more domains.
#[derive(Default)]
pub struct Operations(Vec<Operation>);

/// Builds [`Operations`] from handlers with a `#[utoipa::path]`, each with its scope.
macro_rules! operations {
    ($($handler:ident: $scope:ident),+ $(,)?) => {
        pastey::paste! {
            $crate::http::operations::Operations::default()
                $(.with::<[<__path_ $handler>], _, _>($handler, $crate::http::operations::Scope::$scope))+
        }
    };
}
pub(crate) use operations;

impl Operations {
    /// Adds an operation. The macro `operations!` names the declaration.
    #[must_use]
    pub fn with<P, F, Args>(mut self, handler: F, scope: Scope) -> Self
    where
        P: Path + utoipa::__dev::SchemaReferences + utoipa::__dev::Tags<'static>,
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.0.push(Operation {
            path: P::path,
            methods: P::methods,
            description: P::operation,
            tags: P::tags,
            schemas: P::schemas,
            scope,
            route: web::route().to(handler),
        });
        self
    }

    /// Adds the operations of another table.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Registers a resource for each path below `prefix`, which `cfg` has already. A GET also serves HEAD. Any other
    /// method is a 405 that lists the supported methods.
    pub fn register(self, cfg: &mut web::ServiceConfig, prefix: &str) {
        let mut resources: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
        for operation in self.0 {
            resources.entry((operation.path)()).or_default().push(operation);
        }
        let mut resources: Vec<(String, Vec<Operation>)> = resources.into_iter().collect();
        resources.sort_by_cached_key(|(path, _)| precedence(path));
        for (path, operations) in resources {
            let mut resource = web::resource(path.strip_prefix(prefix).unwrap_or(&path));
            let mut allowed = Vec::new();
            for operation in operations {
                let served = methods(&(operation.methods)());
                allowed.extend(served.clone());
                let is_served =
                    move |request: &guard::GuardContext<'_>| served.contains(&request.head().method);
                resource = resource.route(operation.route.guard(guard::fn_guard(is_served)));
            }
            let allowed = METHODS.iter().filter(|method| allowed.contains(method));
            let allow = allowed.map(Method::as_str).collect::<Vec<_>>().join(", ");
            cfg.service(resource.default_service(method_not_allowed(&allow)));
        }
    }

    /// Adds the operations and the types that they use to the document.
    pub fn describe(&self, document: &mut OpenApi) {
        let mut schemas = Schemas::new();
        for operation in &self.0 {
            let mut description = (operation.description)();
            let tags = (operation.tags)().into_iter().map(str::to_owned);
            description.tags.get_or_insert_default().extend(tags);
            if operation.scope == Scope::Public {
                description.security = Some(vec![SecurityRequirement::default()]);
            }
            document.paths.add_path_operation((operation.path)(), (operation.methods)(), description);
            (operation.schemas)(&mut schemas);
        }
        document.components.get_or_insert_default().schemas.extend(schemas);
    }
}

/// Returns the methods that a declaration serves. GET includes HEAD, for which the server omits the body.
fn methods(declared: &[HttpMethod]) -> Vec<Method> {
    declared
        .iter()
        .flat_map(|method| match method {
            HttpMethod::Get => vec![Method::GET, Method::HEAD],
            HttpMethod::Post => vec![Method::POST],
            HttpMethod::Put => vec![Method::PUT],
            HttpMethod::Patch => vec![Method::PATCH],
            HttpMethod::Delete => vec![Method::DELETE],
            HttpMethod::Options => vec![Method::OPTIONS],
            HttpMethod::Head => vec![Method::HEAD],
            HttpMethod::Trace => vec![Method::TRACE],
        })
        .collect()
}

/// Returns the sort key of a path: a literal segment takes precedence over a parameter.
fn precedence(path: &str) -> Vec<(bool, String)> {
    path.split('/').map(|segment| (segment.starts_with('{'), segment.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_segments_take_precedence_over_parameters() {
        let mut paths = ["/a/{id}", "/a/{id}/run", "/a", "/a/batch", "/a/batch/{id}"];
        paths.sort_by_key(|path| precedence(path));
        assert_eq!(paths, ["/a", "/a/batch", "/a/batch/{id}", "/a/{id}", "/a/{id}/run"]);
    }
}
