//! `/unsubscribe/{token}`: the target of the unsubscribe links in mails. Mail clients post there by themselves (RFC
//! 8058). A person sees a page first, because programs that open the links of a mail before its reader must not change
//! anything.

mod words;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use utoipa::ToSchema;

use self::words::PageTexts;
use crate::error::{Error, Result};
use crate::http::bodies;
use crate::http::operations::{Operations, operations};
use crate::http::problem::Problem;
use crate::preferences::usecase::PreferenceService;

/// The largest size of a body, which is `List-Unsubscribe=One-Click` in either form encoding.
const LARGEST_BODY: usize = 4096;

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        get_unsubscribe_page: Public,
        unsubscribe_recipient: Public,
        resubscribe_recipient: Public,
        unsubscribe_recipient_from_all: Public,
        resubscribe_recipient_to_all: Public,
    ]
}

/// The sender's name on the pages.
#[derive(Debug, Clone)]
pub struct Brand(pub Option<String>);

/// The OpenAPI schema of the body.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the body is ignored; the type only defines the schema")]
pub struct OneClick {
    /// The value that mail clients send.
    #[schema(rename = "List-Unsubscribe", nullable = false)]
    list_unsubscribe: Option<String>,
}

/// The texts and buttons of a page.
struct UnsubscribePage<'a> {
    words: &'static PageTexts,
    brand: Option<&'a str>,
    title: &'a str,
    text: String,
    /// The labels of the buttons and their target URLs, relative to the page.
    buttons: Vec<(&'a str, String)>,
}

impl UnsubscribePage<'_> {
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
    // the URL contains a token, which anybody could use
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

/// Returns the page for an invalid or outdated link, or for a failure.
fn plain(words: &'static PageTexts, title: &str, text: &str, status: StatusCode) -> HttpResponse {
    UnsubscribePage { words, brand: None, title, text: text.to_owned(), buttons: Vec::new() }.response(status)
}

fn no_such_link(words: &'static PageTexts) -> HttpResponse {
    plain(words, words.no_link_title, words.no_link, StatusCode::NOT_FOUND)
}

/// Returns a page even if the database is unavailable, because a person reads it.
fn failed(words: &'static PageTexts, error: Error) -> Result<HttpResponse> {
    match error {
        Error::Unavailable(_) | Error::OutcomeUnknown(_) | Error::Busy(_) => {
            tracing::error!(%error, "unsubscribe request failed");
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

/// The service, the brand and the token: the inputs of every page.
pub type PageInputs = (web::Data<PreferenceService>, web::Data<Brand>, web::Path<String>);

/// Performs the action of a button, and returns a page with a button that undoes it.
async fn click(
    (service, brand, token): PageInputs,
    (request, body): (HttpRequest, web::Payload),
    Click { is_wanted, of_everything }: Click,
) -> Result<HttpResponse> {
    let words = PageTexts::of(&request);
    // checked before the body, so that no body is read without a valid token
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
    let page =
        UnsubscribePage { words, brand, title, text: text.replace("{}", &name), buttons: vec![button] };
    Ok(page.response(StatusCode::OK))
}

/// Show the unsubscribe page
///
/// Returns the page and changes nothing, because programs open the links of a mail before its reader does.
#[utoipa::path(get, path = "/unsubscribe/{token}", operation_id = "get_unsubscribe_page", tag = "preferences",
    params(("token" = String, Path, description = "The token of a mail's `List-Unsubscribe` header",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 5700)),
    responses(
        (status = 200, description = "A page with a button", body = String, content_type = "text/html"),
        (status = 404, description = "A page: the token is not valid", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
    ))]
pub async fn get_unsubscribe_page((service, brand, token): PageInputs, request: HttpRequest) -> HttpResponse {
    let words = PageTexts::of(&request);
    let Some(subject) = service.subject(&token) else { return no_such_link(words) };
    let text = words.ask.replace("{}", &words.name(&subject));
    // relative, so that it also works behind a proxy that adds a path prefix
    let mut buttons = vec![(words.button, token.to_string())];
    if subject.group.is_some() {
        buttons.push((words.button_everything, format!("{token}/all")));
    }
    UnsubscribePage { words, brand: brand.0.as_deref(), title: words.title, text, buttons }
        .response(StatusCode::OK)
}

/// Unsubscribe
///
/// One-click unsubscription (RFC 8058): the address of the message is opted out of its group, or of the channel if it
/// had no group, whoever has the address later. Mail clients post here by themselves. The operation is idempotent.
#[utoipa::path(post, path = "/unsubscribe/{token}", operation_id = "unsubscribe_recipient", tag = "preferences",
    params(("token" = String, Path, description = "The token of a mail's `List-Unsubscribe` header",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 5700)),
    request_body(content = OneClick, content_type = "application/x-www-form-urlencoded",
        description = "The form that mail clients and the page send; it is ignored, and may be absent", example = json!({"List-Unsubscribe": "One-Click"})),
    responses(
        (status = 200, description = "A page that confirms it, with a button to undo it", body = String, content_type = "text/html"),
        (status = 404, description = "A page: the token is not valid", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
        (status = 410, description = "A page: the link is outdated, and its client or message has been deleted; nothing was changed", body = String, content_type = "text/html"),
        (status = 413, description = "The body is larger than 4 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A page: the database is unavailable; try again later", body = String, content_type = "text/html"),
    ))]
pub async fn unsubscribe_recipient(
    parts: PageInputs,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse> {
    click(parts, (request, body), Click { is_wanted: false, of_everything: false }).await
}

/// Undo an unsubscription
#[utoipa::path(post, path = "/unsubscribe/{token}/undo", operation_id = "resubscribe_recipient", tag = "preferences",
    params(("token" = String, Path, description = "The token of a mail's `List-Unsubscribe` header",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 5700)),
    request_body(content = OneClick, content_type = "application/x-www-form-urlencoded",
        description = "The form that mail clients and the page send; it is ignored, and may be absent", example = json!({"List-Unsubscribe": "One-Click"})),
    responses(
        (status = 200, description = "A page that confirms it, with a button to unsubscribe", body = String, content_type = "text/html"),
        (status = 404, description = "A page: the token is not valid", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
        (status = 410, description = "A page: the link is outdated, and its client or message has been deleted; nothing was changed", body = String, content_type = "text/html"),
        (status = 413, description = "The body is larger than 4 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A page: the database is unavailable; try again later", body = String, content_type = "text/html"),
    ))]
pub async fn resubscribe_recipient(
    parts: PageInputs,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse> {
    click(parts, (request, body), Click { is_wanted: true, of_everything: false }).await
}

/// Unsubscribe from everything
///
/// Opts the recipient out of all messages over the channel except transactional ones.
#[utoipa::path(post, path = "/unsubscribe/{token}/all", operation_id = "unsubscribe_recipient_from_all", tag = "preferences",
    params(("token" = String, Path, description = "The token of a mail's `List-Unsubscribe` header",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 5700)),
    request_body(content = OneClick, content_type = "application/x-www-form-urlencoded",
        description = "The form that the page sends; it is ignored, and may be absent", example = json!({"List-Unsubscribe": "One-Click"})),
    responses(
        (status = 200, description = "A page that confirms it, with a button to undo it", body = String, content_type = "text/html"),
        (status = 404, description = "A page: the token is not valid", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
        (status = 410, description = "A page: the link is outdated, and its client or message has been deleted; nothing was changed", body = String, content_type = "text/html"),
        (status = 413, description = "The body is larger than 4 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A page: the database is unavailable; try again later", body = String, content_type = "text/html"),
    ))]
pub async fn unsubscribe_recipient_from_all(
    parts: PageInputs,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse> {
    click(parts, (request, body), Click { is_wanted: false, of_everything: true }).await
}

/// Undo an unsubscription from everything
///
/// Opts the recipient in to the channel again. Opt-outs of groups stay.
#[utoipa::path(post, path = "/unsubscribe/{token}/all/undo", operation_id = "resubscribe_recipient_to_all", tag = "preferences",
    params(("token" = String, Path, description = "The token of a mail's `List-Unsubscribe` header",
        pattern = "^[A-Za-z0-9_-]+$", min_length = 1, max_length = 5700)),
    request_body(content = OneClick, content_type = "application/x-www-form-urlencoded",
        description = "The form that the page sends; it is ignored, and may be absent", example = json!({"List-Unsubscribe": "One-Click"})),
    responses(
        (status = 200, description = "A page that confirms it, with a button to unsubscribe", body = String, content_type = "text/html"),
        (status = 404, description = "A page: the token is not valid", content(
            (String = "text/html"), (Problem = "application/problem+json"))),
        (status = 410, description = "A page: the link is outdated, and its client or message has been deleted; nothing was changed", body = String, content_type = "text/html"),
        (status = 413, description = "The body is larger than 4 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A page: the database is unavailable; try again later", body = String, content_type = "text/html"),
    ))]
pub async fn resubscribe_recipient_to_all(
    parts: PageInputs,
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
