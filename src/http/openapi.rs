//! The OpenAPI document and Swagger UI.

mod links;
mod presence;
mod problems;
mod replays;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use utoipa::Modify;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_swagger_ui::{Config, SwaggerUi};

use self::links::Links;
use self::presence::Presence;
use self::problems::Problems;
use self::replays::Replays;
/// The path of the document.
pub const DOCUMENT: &str = "/api/v1/openapi.json";
/// The document as it is served. Generated at run time, it would permanently use 5 MiB in each worker. A test checks
/// that the file matches the code.
pub(super) static COMMITTED: &str = include_str!("../../docs/openapi.json");

/// Adds the security scheme, for the "Authorize" button of Swagger UI.
struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        document.security = Some(vec![
            SecurityRequirement::new::<_, [&str; 0], &str>("api_key", []),
            // without a configured key, the service requires none
            SecurityRequirement::default(),
        ]);
    }
}

/// Adds security, problems, links, optional fields and replays to a document that has its operations.
pub fn complete(document: &mut OpenApi) {
    let parts: [&dyn Modify; 5] = [&ApiKey, &Problems, &Links, &Presence, &Replays];
    for part in parts {
        part.modify(document);
    }
}

/// The path of Swagger UI.
pub const DOCS: &str = "/api/v1/docs";

/// Returns the service of Swagger UI, at `/api/v1/docs/`.
pub fn swagger() -> SwaggerUi {
    let config = Config::from(DOCUMENT).try_it_out_enabled(true).persist_authorization(true);
    SwaggerUi::new(format!("{DOCS}/{{_:.*}}")).config(config)
}

/// Returns the document.
pub async fn get_document() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(COMMITTED)
}
