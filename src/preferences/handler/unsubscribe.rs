//! `/unsubscribe/{token}`: where the links in mails lead. Mail programs post there by themselves (RFC 8058); a person
//! sees a page first, since whatever looks at the links of a mail for its reader must change nothing.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::http::bodies;
use crate::http::problem::Problem;
use crate::http::routing::{get, others};
use crate::kinds::ChannelKind;
use crate::preferences::model::Subject;
use crate::preferences::usecase::Preferring;

/// `List-Unsubscribe=One-Click`, as a form of one kind or the other, and nothing else.
const LARGEST_BODY: usize = 4096;

/// Registers the routes, at the root.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/unsubscribe/{token}")
            .route(get().to(get_unsubscribe_page))
            .route(web::post().to(unsubscribe_recipient))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/unsubscribe/{token}/undo")
            .route(web::post().to(resubscribe_recipient))
            .default_service(others("POST")),
    );
}

/// The body of a click, for the document.
#[derive(ToSchema)]
#[expect(dead_code, reason = "nothing depends on it, so nobody reads it")]
pub struct OneClick {
    /// What mail programs send.
    #[schema(rename = "List-Unsubscribe", nullable = false)]
    list_unsubscribe: Option<String>,
}

/// What a page says, and what its button does.
struct Page<'a> {
    title: &'a str,
    text: String,
    /// The text of the button, and where it posts to, as seen from the page.
    button: Option<(&'a str, String)>,
}

impl Page<'_> {
    fn response(&self, status: StatusCode) -> HttpResponse {
        let button = self.button.as_ref().map(|(label, action)| {
            format!(
                "<form method=\"post\" action=\"{}\"><button name=\"List-Unsubscribe\" value=\"One-Click\">{}</button></form>",
                escaped(action),
                escaped(label)
            )
        });
        let body = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"robots\" content=\"noindex\"><style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;\
             margin:15vh auto 0;padding:0 1rem}}button{{font:inherit;padding:.5rem 1.5rem}}</style></head>\
             <body><h1>{title}</h1><p>{text}</p>{button}</body></html>\n",
            title = escaped(self.title),
            text = escaped(&self.text),
            button = button.unwrap_or_default(),
        );
        let mut response = HttpResponseBuilder::new(status);
        for (name, value) in HEADERS {
            response.insert_header((name.clone(), *value));
        }
        response.body(body)
    }
}

const HEADERS: &[(HeaderName, &str)] = &[
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // the address is worth something to whoever has it
    (header::REFERRER_POLICY, "no-referrer"),
];

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// What a subject is called on a page.
fn what(subject: &Subject) -> String {
    match (&subject.group, subject.channel) {
        (Some(group), _) => format!("messages of the kind “{group}”"),
        (None, ChannelKind::Email) => "e-mails".to_owned(),
        (None, channel) => format!("messages by {channel}"),
    }
}

fn no_such_link() -> HttpResponse {
    let text = "This link is not complete. Copy all of it from the message.".to_owned();
    Page { title: "There is no such page", text, button: None }.response(StatusCode::NOT_FOUND)
}

/// A page even when the database is away: a person reads it.
fn failed(error: Error) -> Result<HttpResponse> {
    match error {
        Error::Unavailable(_) | Error::OutcomeUnknown(_) | Error::Busy(_) => {
            tracing::error!(%error, "somebody could not unsubscribe");
            let text = "That did not work just now. Please try again in a minute.";
            let page = Page { title: "Please try again", text: text.to_owned(), button: None };
            let mut response = page.response(StatusCode::SERVICE_UNAVAILABLE);
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("60"));
            Ok(response)
        }
        other => Err(other),
    }
}

/// Does what a button says, and shows that with a button that takes it back.
async fn click(
    service: &Preferring,
    token: &str,
    (request, body): (HttpRequest, web::Payload),
    is_wanted: bool,
) -> Result<HttpResponse> {
    // before the body: whoever has no token has nothing read
    let Some(subject) = service.subject(token) else { return Ok(no_such_link()) };
    bodies::read(request, body, LARGEST_BODY).await?;
    let what = what(&subject);
    if let Err(error) = service.follow(subject, is_wanted).await {
        return failed(error);
    }
    let page = if is_wanted {
        let button = Some(("Unsubscribe", format!("../{token}")));
        Page { title: "You are subscribed again", text: format!("You get {what} from us again."), button }
    } else {
        let button = Some(("Undo", format!("{token}/undo")));
        Page { title: "You are unsubscribed", text: format!("You get no more {what} from us."), button }
    };
    Ok(page.response(StatusCode::OK))
}

/// Show the page to unsubscribe
///
/// Changes nothing: programs look at the links of a mail before its reader does.
#[utoipa::path(get, path = "/unsubscribe/{token}", operation_id = "get_unsubscribe_page", tag = "preferences", security(()),
    params(("token" = String, Path, description = "As in the header `List-Unsubscribe` of a mail",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 152)),
    responses(
        (status = 200, description = "A page with a button", body = String, content_type = "text/html"),
        (status = 404, description = "A page: this service made no such token", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
    ))]
pub async fn get_unsubscribe_page(service: web::Data<Preferring>, token: web::Path<String>) -> HttpResponse {
    let Some(subject) = service.subject(&token) else { return no_such_link() };
    let text = format!("Press the button, and you will get no more {} from us.", what(&subject));
    // relative, so that it holds behind a proxy that adds a path
    Page { title: "Unsubscribe", text, button: Some(("Unsubscribe", token.into_inner())) }
        .response(StatusCode::OK)
}

/// Unsubscribe
///
/// One-click unsubscription (RFC 8058): the recipient opts out of the message's group, or of the channel if it had none.
/// Mail programs post here by themselves. Once is enough.
#[utoipa::path(post, path = "/unsubscribe/{token}", operation_id = "unsubscribe_recipient", tag = "preferences", security(()),
    params(("token" = String, Path, description = "As in the header `List-Unsubscribe` of a mail",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 152)),
    request_body(content = OneClick, content_type = "application/x-www-form-urlencoded",
        description = "As mail programs and the page send it; it is not read, and may be missing", example = json!({"List-Unsubscribe": "One-Click"})),
    responses(
        (status = 200, description = "A page that says so, with a button that takes it back", body = String, content_type = "text/html"),
        (status = 404, description = "A page: this service made no such token", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
        (status = 413, description = "The body is larger than 4 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A page: the database is away, and the button may be tried again", body = String, content_type = "text/html"),
    ))]
pub async fn unsubscribe_recipient(
    service: web::Data<Preferring>,
    token: web::Path<String>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse> {
    click(&service, &token, (request, body), false).await
}

/// Take an unsubscription back
#[utoipa::path(post, path = "/unsubscribe/{token}/undo", operation_id = "resubscribe_recipient", tag = "preferences", security(()),
    params(("token" = String, Path, description = "As in the header `List-Unsubscribe` of a mail",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 152)),
    request_body(content = OneClick, content_type = "application/x-www-form-urlencoded",
        description = "As mail programs and the page send it; it is not read, and may be missing", example = json!({"List-Unsubscribe": "One-Click"})),
    responses(
        (status = 200, description = "A page that says so, with a button to unsubscribe", body = String, content_type = "text/html"),
        (status = 404, description = "A page: this service made no such token", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
        (status = 413, description = "The body is larger than 4 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A page: the database is away, and the button may be tried again", body = String, content_type = "text/html"),
    ))]
pub async fn resubscribe_recipient(
    service: web::Data<Preferring>,
    token: web::Path<String>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse> {
    click(&service, &token, (request, body), true).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_text_and_never_markup() {
        assert_eq!(escaped("<a href='x'>&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;");
    }
}
