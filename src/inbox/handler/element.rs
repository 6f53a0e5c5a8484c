//! `/inbox.js`: the inbox as a custom element for web pages.

use std::fmt::Write;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use ring::digest::{SHA256, digest};

const SOURCE: &str = include_str!("../element.js");

/// Returns the script of the element `<fanfare-inbox>` for pages of any origin. It contains no secrets.
pub async fn get_element(request: HttpRequest) -> HttpResponse {
    let mut tag = String::from('"');
    for byte in digest(&SHA256, SOURCE.as_bytes()).as_ref().iter().take(12) {
        // writing to a String cannot fail
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    let is_known = known.is_some_and(|known| {
        known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag || one.trim() == "*")
    });
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::ETAG, tag))
        // short enough that pages soon get a new version, long enough that they rarely request it
        .insert_header((header::CACHE_CONTROL, "public, max-age=300"));
    if is_known {
        return response.finish();
    }
    response
        .insert_header((header::CONTENT_TYPE, "text/javascript; charset=utf-8"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("Cross-Origin-Resource-Policy", "cross-origin"))
        .body(SOURCE)
}
