//! Protects a service on the operator's machine against the web pages that the operator visits.
//!
//! A page can make the browser send requests to any address, including loopback. Two things identify such requests:
//!
//! - **`Host`** has the name of the site that the browser believes it talks to. A page whose name resolves to this
//!   service (DNS rebinding) sends its own name, so only known names are served.
//! - **`Sec-Fetch-Site`** and **`Origin`** have the site that a request comes from (W3C Fetch Metadata; the Fetch
//!   standard, 3.2). A request that may change something is served only if it comes from this site or from no site.
//!
//! Every response forbids browsers to run scripts, to frame it and to guess its type.

use std::collections::HashSet;
use std::net::IpAddr;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web;

use super::access::{INBOXES, UNSUBSCRIBE};
use super::openapi::DOCS;
use super::problem::Problem;

/// The header in which browsers send the origin of a request.
static FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The policy of responses that are neither a page nor a part of one.
const NO_PAGE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// The policy of Swagger UI: its own scripts, and inline styles.
const SWAGGER: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The names of this service, and the other sites whose pages may call it.
#[derive(Debug, Clone, Default)]
pub struct Sites {
    /// Names that `Host` may have besides loopback's; none: `Host` is not checked.
    hosts: Option<HashSet<String>>,
    /// The public origin of this service, such as `https://mail.example.com`.
    public: Option<String>,
    /// Origins of the pages that may show inboxes.
    inboxes: HashSet<String>,
}

impl Sites {
    /// Serves the names of loopback, of the public URL and these hosts. On an address other than loopback, `Host` is
    /// checked only if hosts are given: every request needs a key there, which pages of other sites do not have.
    pub fn new(
        is_loopback: bool,
        (hosts, public_url): (&[String], Option<&str>),
        inboxes: impl Iterator<Item = String>,
    ) -> Self {
        let public = public_url.and_then(|url| url::Url::parse(url).ok());
        let public_host = public.as_ref().and_then(|url| url.host_str()).map(str::to_ascii_lowercase);
        let are_checked = is_loopback || !hosts.is_empty();
        let known = hosts.iter().map(|host| host.to_ascii_lowercase()).chain(public_host);
        Self {
            hosts: are_checked.then(|| known.collect()),
            public: public.map(|url| url.origin().ascii_serialization()),
            inboxes: inboxes.collect(),
        }
    }

    /// Returns true if this authority (`host[:port]`) names this service.
    fn serves(&self, authority: &str) -> bool {
        let Some(known) = &self.hosts else { return true };
        host_of(authority).is_some_and(|host| is_loopback(&host) || known.contains(&host))
    }

    /// Returns true if a page of this origin belongs to the service that the request names as `authority`.
    fn is_own(&self, origin: &str, authority: &str) -> bool {
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        own.is_some_and(|own| own.eq_ignore_ascii_case(authority)) || self.public.as_deref() == Some(origin)
    }
}

/// Returns the host of an authority, in lower case and without brackets; none if the text is not an authority.
fn host_of(authority: &str) -> Option<String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(host, rest)| (host, rest.strip_prefix(':')))?,
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    port.is_none_or(is_port).then(|| host.trim_end_matches('.').to_ascii_lowercase())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Returns the only value of a header; an error for several values, or for a value that is not text.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, ()> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// Returns the problem of a refused request; none if the request is accepted.
fn refusal(request: &ServiceRequest, sites: &Sites) -> Option<Problem> {
    let headers = request.headers();
    let host = only(headers, &header::HOST);
    let in_uri = request.uri().authority().map(|authority| authority.as_str());
    let is_served = match (host, in_uri) {
        (Err(()), _) => false,
        // RFC 9112, 3.2: only HTTP/1.0 clients omit it, and no browser does
        (Ok(None), None) => request.version() < actix_web::http::Version::HTTP_11,
        (Ok(host), in_uri) => [host, in_uri].into_iter().flatten().all(|authority| sites.serves(authority)),
    };
    if !is_served {
        return Some(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "/problems/misdirected-request",
            "Misdirected request",
            "unknown host name in `Host`; use 127.0.0.1 or localhost, or add the name to ALLOWED_HOSTS",
        ));
    }
    let authority = host.ok().flatten().or(in_uri).unwrap_or_default();
    if is_cross_site(request, authority, sites) {
        return Some(Problem::new(
            StatusCode::FORBIDDEN,
            "/problems/cross-site-request",
            "Cross-site request",
            "pages of other sites may not change anything; call this service from its own pages or from a program",
        ));
    }
    None
}

/// Returns true if a request that may change something comes from a page of another site.
fn is_cross_site(request: &ServiceRequest, authority: &str, sites: &Sites) -> bool {
    // any mail program may post to the links in mails, and their tokens are the permission
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        || request.path().starts_with(UNSUBSCRIBE)
    {
        return false;
    }
    let (Ok(origin), Ok(site)) =
        (only(request.headers(), &header::ORIGIN), only(request.headers(), &FETCH_SITE))
    else {
        return true;
    };
    if request.path().starts_with(INBOXES) && origin.is_some_and(|origin| sites.inboxes.contains(origin)) {
        return false;
    }
    let is_other_origin = origin.is_some_and(|origin| !sites.is_own(origin, authority));
    is_other_origin || site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
}

/// The middleware that refuses requests of foreign pages and secures all responses.
///
/// # Errors
/// Errors of the wrapped service.
pub async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let is_swagger = request.path().starts_with(DOCS);
    let refusal = request.app_data::<web::Data<Sites>>().and_then(|sites| refusal(&request, sites.get_ref()));
    let mut response = match refusal {
        Some(problem) => request.into_response(problem.response()).map_into_right_body(),
        None => next.call(request).await?.map_into_left_body(),
    };
    secure(response.headers_mut(), is_swagger);
    Ok(response)
}

/// Adds the security headers that a handler has not set itself.
pub(super) fn secure(headers: &mut HeaderMap, is_swagger: bool) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, if is_swagger { SWAGGER } else { NO_PAGE }),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ] {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(is_loopback: bool, hosts: &[&str]) -> Sites {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        Sites::new(is_loopback, (&hosts, Some("https://Mail.example.com/x")), std::iter::empty())
    }

    #[test]
    fn a_service_is_known_by_its_names_alone() {
        let here = sites(true, &["fanfare.lan"]);
        for known in [
            "127.0.0.1:8083",
            "127.0.0.1",
            "127.9.9.9:1",
            "localhost:8083",
            "LOCALHOST",
            "localhost.",
            "[::1]:8083",
            "[::1]",
            "mail.example.com",
            "MAIL.example.com:443",
            "fanfare.lan:8083",
        ] {
            assert!(here.serves(known), "{known}");
        }
        for other in [
            "evil.example:8083",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil-localhost",
            "10.0.0.1:8083",
            "0.0.0.0:8083",
            "[::]:8083",
            "[::ffff:10.0.0.1]",
            "",
            "::1",
            "127.0.0.1:x",
            "127.0.0.1:8083:1",
            "evil.example@127.0.0.1",
            "127.0.0.1@evil.example",
            "2130706433",
            "0x7f.1",
            "mail.example.com.evil.example",
        ] {
            assert!(!here.serves(other), "{other}");
        }
        assert!(sites(false, &[]).serves("anything:1"), "a key is needed there");
        assert!(!sites(false, &["fanfare.lan"]).serves("anything:1"));
    }

    #[test]
    fn a_page_is_its_own_by_its_origin() {
        let here = sites(true, &[]);
        for (origin, authority, expected) in [
            ("http://127.0.0.1:8083", "127.0.0.1:8083", true),
            ("https://127.0.0.1:8083", "127.0.0.1:8083", true),
            ("https://mail.example.com", "10.0.0.1:8083", true),
            ("http://127.0.0.1:3000", "127.0.0.1:8083", false),
            ("http://localhost:8083", "127.0.0.1:8083", false),
            ("http://evil.example", "127.0.0.1:8083", false),
            ("http://mail.example.com", "127.0.0.1:8083", false),
            ("null", "127.0.0.1:8083", false),
            ("", "", false),
        ] {
            assert_eq!(here.is_own(origin, authority), expected, "{origin} {authority}");
        }
    }
}
