//! `/unsubscribe/{token}`: where the links in mails lead. Mail programs post there by themselves (RFC 8058); a person
//! sees a page first, since whatever looks at the links of a mail for its reader must change nothing.

mod words;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use utoipa::ToSchema;

use self::words::Words;
use crate::error::{Error, Result};
use crate::http::bodies;
use crate::http::problem::Problem;
use crate::http::routing::{get, others};
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
    )
    .service(
        web::resource("/unsubscribe/{token}/all")
            .route(web::post().to(unsubscribe_recipient_from_all))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/unsubscribe/{token}/all/undo")
            .route(web::post().to(resubscribe_recipient_to_all))
            .default_service(others("POST")),
    );
}

/// The sender's name on the pages.
#[derive(Debug, Clone)]
pub struct Brand(pub Option<String>);

/// The body of a click, for the document.
#[derive(ToSchema)]
#[expect(dead_code, reason = "nothing depends on it, so nobody reads it")]
pub struct OneClick {
    /// What mail programs send.
    #[schema(rename = "List-Unsubscribe", nullable = false)]
    list_unsubscribe: Option<String>,
}

/// The texts of a page, and its buttons.
struct Page<'a> {
    words: &'static Words,
    brand: Option<&'a str>,
    title: &'a str,
    text: String,
    /// The texts of the buttons, and where they post to, as seen from the page.
    buttons: Vec<(&'a str, String)>,
}

impl Page<'_> {
    fn response(&self, status: StatusCode) -> HttpResponse {
        let buttons: String = self
            .buttons
            .iter()
            .map(|(label, action)| {
                format!(
                    "<form method=\"post\" action=\"{}\"><button name=\"List-Unsubscribe\" value=\"One-Click\">{}</button></form>",
                    escaped(action),
                    escaped(label)
                )
            })
            .collect();
        let brand = self.brand.map(|name| format!("<p class=\"from\">{}</p>", escaped(name)));
        let body = format!(
            "<!doctype html>\n<html lang=\"{language}\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"robots\" content=\"noindex\"><style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;\
             margin:15vh auto 0;padding:0 1rem}}button{{font:inherit;padding:.5rem 1.5rem;margin:0 0 1rem}}\
             .from{{font-weight:600}}</style></head>\
             <body>{brand}<h1>{title}</h1><p>{text}</p>{buttons}</body></html>\n",
            language = self.words.language,
            brand = brand.unwrap_or_default(),
            title = escaped(self.title),
            text = escaped(&self.text),
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

/// The page of a link that is wrong or too old, or of a failure.
fn plain(words: &'static Words, title: &str, text: &str, status: StatusCode) -> HttpResponse {
    Page { words, brand: None, title, text: text.to_owned(), buttons: Vec::new() }.response(status)
}

fn no_such_link(words: &'static Words) -> HttpResponse {
    plain(words, words.no_link_title, words.no_link, StatusCode::NOT_FOUND)
}

/// A page even when the database is away: a person reads it.
fn failed(words: &'static Words, error: Error) -> Result<HttpResponse> {
    match error {
        Error::Unavailable(_) | Error::OutcomeUnknown(_) | Error::Busy(_) => {
            tracing::error!(%error, "somebody could not unsubscribe");
            let mut response = plain(words, words.retry_title, words.retry, StatusCode::SERVICE_UNAVAILABLE);
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("60"));
            Ok(response)
        }
        other => Err(other),
    }
}

/// A button of a page.
#[derive(Debug, Clone, Copy)]
struct Click {
    is_wanted: bool,
    of_everything: bool,
}

/// The service, the brand and the token, which every page needs.
pub type Parts = (web::Data<Preferring>, web::Data<Brand>, web::Path<String>);

/// Does what a button says, and shows that with a button that takes it back.
async fn click(
    (service, brand, token): Parts,
    (request, body): (HttpRequest, web::Payload),
    Click { is_wanted, of_everything }: Click,
) -> Result<HttpResponse> {
    let words = Words::of(&request);
    // before the body: whoever has no token has nothing read
    let Some(mut subject) = service.subject(&token) else { return Ok(no_such_link(words)) };
    bodies::read(request, body, LARGEST_BODY).await?;
    if of_everything {
        subject.group = None;
    }
    let name = words.name(&subject);
    match service.follow(subject, is_wanted).await {
        Ok(true) => {}
        Ok(false) => return Ok(plain(words, words.stale_title, words.stale, StatusCode::GONE)),
        Err(error) => return failed(words, error),
    }
    let brand = brand.0.as_deref();
    let (title, text, button) = match (is_wanted, of_everything) {
        (false, false) => (words.done_title, words.done, (words.undo, format!("{token}/undo"))),
        (false, true) => (words.done_title, words.done, (words.undo, "all/undo".to_owned())),
        (true, false) => (words.back_title, words.back, (words.button, format!("../{token}"))),
        (true, true) => (words.back_title, words.back, (words.button, "../all".to_owned())),
    };
    let page = Page { words, brand, title, text: text.replace("{}", &name), buttons: vec![button] };
    Ok(page.response(StatusCode::OK))
}

/// Show the page to unsubscribe
///
/// Changes nothing: programs look at the links of a mail before its reader does.
#[utoipa::path(get, path = "/unsubscribe/{token}", operation_id = "get_unsubscribe_page", tag = "preferences", security(()),
    params(("token" = String, Path, description = "As in the header `List-Unsubscribe` of a mail",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 5700)),
    responses(
        (status = 200, description = "A page with a button", body = String, content_type = "text/html"),
        (status = 404, description = "A page: this service made no such token", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
    ))]
pub async fn get_unsubscribe_page((service, brand, token): Parts, request: HttpRequest) -> HttpResponse {
    let words = Words::of(&request);
    let Some(subject) = service.subject(&token) else { return no_such_link(words) };
    let text = words.ask.replace("{}", &words.name(&subject));
    // relative, so that it holds behind a proxy that adds a path
    let mut buttons = vec![(words.button, token.to_string())];
    if subject.group.is_some() {
        buttons.push((words.button_everything, format!("{token}/all")));
    }
    Page { words, brand: brand.0.as_deref(), title: words.title, text, buttons }.response(StatusCode::OK)
}

/// Unsubscribe
///
/// One-click unsubscription (RFC 8058): the address that the message went to opts out of its group, or of the channel if it had
/// none, whoever has the address later.
/// Mail programs post here by themselves. Once is enough.
#[utoipa::path(post, path = "/unsubscribe/{token}", operation_id = "unsubscribe_recipient", tag = "preferences", security(()),
    params(("token" = String, Path, description = "As in the header `List-Unsubscribe` of a mail",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 5700)),
    request_body(content = OneClick, content_type = "application/x-www-form-urlencoded",
        description = "As mail programs and the page send it; it is not read, and may be missing", example = json!({"List-Unsubscribe": "One-Click"})),
    responses(
        (status = 200, description = "A page that says so, with a button that takes it back", body = String, content_type = "text/html"),
        (status = 404, description = "A page: this service made no such token", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
        (status = 410, description = "A page: the link is of an earlier version, and what it names is gone; nothing was changed", body = String, content_type = "text/html"),
        (status = 413, description = "The body is larger than 4 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A page: the database is away, and the button may be tried again", body = String, content_type = "text/html"),
    ))]
pub async fn unsubscribe_recipient(
    parts: Parts,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse> {
    click(parts, (request, body), Click { is_wanted: false, of_everything: false }).await
}

/// Take an unsubscription back
#[utoipa::path(post, path = "/unsubscribe/{token}/undo", operation_id = "resubscribe_recipient", tag = "preferences", security(()),
    params(("token" = String, Path, description = "As in the header `List-Unsubscribe` of a mail",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 5700)),
    request_body(content = OneClick, content_type = "application/x-www-form-urlencoded",
        description = "As mail programs and the page send it; it is not read, and may be missing", example = json!({"List-Unsubscribe": "One-Click"})),
    responses(
        (status = 200, description = "A page that says so, with a button to unsubscribe", body = String, content_type = "text/html"),
        (status = 404, description = "A page: this service made no such token", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
        (status = 410, description = "A page: the link is of an earlier version, and what it names is gone; nothing was changed", body = String, content_type = "text/html"),
        (status = 413, description = "The body is larger than 4 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A page: the database is away, and the button may be tried again", body = String, content_type = "text/html"),
    ))]
pub async fn resubscribe_recipient(
    parts: Parts,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse> {
    click(parts, (request, body), Click { is_wanted: true, of_everything: false }).await
}

/// Unsubscribe from everything
///
/// The recipient opts out of every message over the channel but transactional ones.
#[utoipa::path(post, path = "/unsubscribe/{token}/all", operation_id = "unsubscribe_recipient_from_all", tag = "preferences", security(()),
    params(("token" = String, Path, description = "As in the header `List-Unsubscribe` of a mail",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 5700)),
    request_body(content = OneClick, content_type = "application/x-www-form-urlencoded",
        description = "As the page sends it; it is not read, and may be missing", example = json!({"List-Unsubscribe": "One-Click"})),
    responses(
        (status = 200, description = "A page that says so, with a button that takes it back", body = String, content_type = "text/html"),
        (status = 404, description = "A page: this service made no such token", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
        (status = 410, description = "A page: the link is of an earlier version, and what it names is gone; nothing was changed", body = String, content_type = "text/html"),
        (status = 413, description = "The body is larger than 4 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A page: the database is away, and the button may be tried again", body = String, content_type = "text/html"),
    ))]
pub async fn unsubscribe_recipient_from_all(
    parts: Parts,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse> {
    click(parts, (request, body), Click { is_wanted: false, of_everything: true }).await
}

/// Take an unsubscription from everything back
///
/// Opt-outs of groups stay.
#[utoipa::path(post, path = "/unsubscribe/{token}/all/undo", operation_id = "resubscribe_recipient_to_all", tag = "preferences", security(()),
    params(("token" = String, Path, description = "As in the header `List-Unsubscribe` of a mail",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 5700)),
    request_body(content = OneClick, content_type = "application/x-www-form-urlencoded",
        description = "As the page sends it; it is not read, and may be missing", example = json!({"List-Unsubscribe": "One-Click"})),
    responses(
        (status = 200, description = "A page that says so, with a button to unsubscribe", body = String, content_type = "text/html"),
        (status = 404, description = "A page: this service made no such token", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
        (status = 410, description = "A page: the link is of an earlier version, and what it names is gone; nothing was changed", body = String, content_type = "text/html"),
        (status = 413, description = "The body is larger than 4 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A page: the database is away, and the button may be tried again", body = String, content_type = "text/html"),
    ))]
pub async fn resubscribe_recipient_to_all(
    parts: Parts,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse> {
    click(parts, (request, body), Click { is_wanted: true, of_everything: true }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_text_and_never_markup() {
        assert_eq!(escaped("<a href='x'>&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;");
    }
}
