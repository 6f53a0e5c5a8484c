//! SMS through a provider's own HTTP API, as the settings describe it: `config/examples/` has two examples.
//!
//! The request is rendered from templates. Each value is encoded for its position, so that no text can break the
//! request. `Idempotency-Key` carries the message's id, unless the settings define that header.

mod rules;
mod settings;
mod template;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::{Method as HttpMethod, StatusCode, Uri};
use secrecy::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;

use self::rules::{Meaning, ParsedResponse, Rules};
pub use self::settings::{Basic, Code, HttpSettings, Method, Rule};
pub use self::template::Variable;
use self::template::{Encoding, MessageValues, RequestTemplate, percent, resolved};
use super::channel::{AttemptFuture, Channel};
use super::delivery::Delivery;
use super::http::{IDEMPOTENCY_KEY, retry_after, unanswered};
use super::report::{AttemptReport, DeliveryResult};
use crate::clock::Clock;
use crate::egress::{self, BodyError, Endpoint, EndpointResponse};
use crate::error::{Complaints, Error, Result};
use crate::failpoint;
use crate::kinds::ChannelKind;

/// The longest response body of such an API.
const LONGEST_ANSWER: usize = 64 * 1024;
/// The pause for a provider that throttles without `Retry-After`.
const PATIENCE: Duration = Duration::from_secs(1);

/// The headers that the connection sets.
const RESERVED: [HeaderName; 4] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION];

/// The adapter for a configured HTTP API.
pub struct HttpSms {
    endpoint: Endpoint,
    method: HttpMethod,
    path: RequestTemplate,
    query: Vec<(String, RequestTemplate)>,
    /// Headers that depend on the message; the constant ones are in `endpoint`.
    headers: Vec<(HeaderName, RequestTemplate)>,
    body: Body,
    rules: Rules,
    clock: Clock,
}

enum Body {
    None,
    Form(Vec<(String, RequestTemplate)>),
    Json(Box<RequestTemplate>),
}

impl Body {
    fn render(&self, names: &MessageValues) -> Result<String, String> {
        match self {
            Self::None => Ok(String::new()),
            Self::Form(fields) => pairs(fields, names),
            Self::Json(template) => {
                let body = template.render(names)?;
                match serde_json::from_str::<IgnoredAny>(&body) {
                    Ok(_) => Ok(body),
                    Err(_) => Err("it does not render to JSON; a placeholder brings its own quotes".into()),
                }
            }
        }
    }
}

fn pairs(fields: &[(String, RequestTemplate)], names: &MessageValues) -> Result<String, String> {
    let pair = |(name, template): &(String, RequestTemplate)| {
        Ok(format!("{}={}", percent(name), percent(&template.render(names)?)))
    };
    Ok(fields.iter().map(pair).collect::<Result<Vec<_>, String>>()?.join("&"))
}

impl HttpSms {
    /// Creates the adapter for the provider that the settings describe. `variable` looks up the `${NAME}` variables.
    ///
    /// # Errors
    /// [`Error::Invalid`] with each wrong setting and without secrets: a template that uses an unknown name or does not
    /// render to JSON, a variable that is not set, an invalid URL, header or pointer.
    pub fn new(settings: &HttpSettings, variable: Variable<'_>, clock: Clock) -> Result<Self> {
        let mut complaints = Complaints::default();
        let mut check = Check { variable, complaints: &mut complaints };
        let (base, path) = check.url(&settings.url);
        let query = check.templates("query", &settings.query);
        let mut common = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(egress::USER_AGENT)),
        ]);
        let body = check.body(settings, &mut common);
        check.authorization(settings, &mut common);
        let headers = check.headers(settings, &mut common);
        let rules = Rules::new(settings, check.complaints);
        let (Some(path), Some(body)) = (path, body) else { return Err(invalid(complaints)) };
        complaints.finish()?;

        let endpoint = Endpoint::new("sms.http.url", &base, common)?;
        let method = match settings.method {
            Method::Post => HttpMethod::POST,
            Method::Get => HttpMethod::GET,
            Method::Put => HttpMethod::PUT,
        };
        let new = Self { endpoint, method, path, query, headers, body, rules, clock };
        new.check_whole()?;
        Ok(new)
    }

    /// Checks the rules that involve several parts.
    fn check_whole(&self) -> Result<()> {
        for sample in MessageValues::samples() {
            self.body.render(&sample).map_err(|why| Error::invalid("sms.http.json", why))?;
            let path = self.target(&sample).map_err(|why| Error::invalid("sms.http.url", why))?;
            if Uri::try_from(path).is_err() {
                return Err(Error::invalid("sms.http.url", "does not render to the path of a URL"));
            }
        }
        let body: Vec<&RequestTemplate> = match &self.body {
            Body::None => vec![],
            Body::Form(fields) => fields.iter().map(|(_, template)| template).collect(),
            Body::Json(template) => vec![template],
        };
        let others = self.query.iter().map(|(_, t)| t).chain(self.headers.iter().map(|(_, t)| t));
        let all: Vec<&str> =
            body.into_iter().chain(others).chain([&self.path]).flat_map(|t| t.used()).copied().collect();
        for needed in [&["text"][..], &["phone", "phone_e164"]] {
            if !needed.iter().any(|name| all.contains(name)) {
                let names = needed.join("` or `");
                return Err(Error::invalid("sms.http", format!("no template uses `{names}`")));
            }
        }
        Ok(())
    }

    fn target(&self, names: &MessageValues) -> Result<String, String> {
        let path = self.path.render(names)?;
        if self.query.is_empty() {
            return Ok(path);
        }
        let join = if path.contains('?') { '&' } else { '?' };
        Ok(format!("{path}{join}{}", pairs(&self.query, names)?))
    }

    fn request(&self, delivery: Delivery) -> Result<(String, HeaderMap, String), String> {
        let mut headers = self.endpoint.headers().clone();
        if !headers.contains_key(IDEMPOTENCY_KEY) {
            let key = HeaderValue::from_str(&delivery.id.to_string()).map_err(|e| e.to_string())?;
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let names = MessageValues::of(delivery)?;
        for (name, template) in &self.headers {
            let value = HeaderValue::from_str(&template.render(&names)?)
                .map_err(|_| format!("the header {name} cannot contain the values of this message"))?;
            headers.insert(name, value);
        }
        Ok((self.target(&names)?, headers, self.body.render(&names)?))
    }

    async fn attempt(&self, delivery: Delivery) -> AttemptReport {
        let (path, headers, body) = match self.request(delivery) {
            Ok(request) => request,
            Err(why) => return AttemptReport::permanent(None, why),
        };
        match self.endpoint.request(self.method.clone(), &path, headers, body).await {
            Ok(reply) => self.read(reply).await,
            Err(why) => unanswered("the provider", why),
        }
    }

    async fn read(&self, reply: EndpointResponse<'_>) -> AttemptReport {
        failpoint::reach("answer-read");
        let status = reply.status();
        let retry_after = retry_after(reply.headers(), self.clock.now());
        let body = if self.rules.reads_bodies() {
            reply.body(LONGEST_ANSWER).await.map_or_else(BodyError::into_beginning, Some)
        } else {
            reply.skip_body(LONGEST_ANSWER);
            None
        };
        let ParsedResponse { meaning, code, id } = self.rules.read(status, body.as_deref());
        let status_code = Some(status.as_u16());
        let error = match code {
            Some(code) => format!("the provider returned {status} with code {code}"),
            None => format!("the provider returned {status}"),
        };
        let verdict = match meaning {
            Meaning::Success => return AttemptReport::delivered(status_code, id),
            Meaning::Transient => match retry_after {
                Some(retry_after) if status == StatusCode::TOO_MANY_REQUESTS => {
                    DeliveryResult::Throttled { retry_after }
                }
                _ => DeliveryResult::Transient { error, retry_after },
            },
            Meaning::Throttled => DeliveryResult::Throttled { retry_after: retry_after.unwrap_or(PATIENCE) },
            Meaning::Permanent => DeliveryResult::Permanent { error },
            Meaning::Gone => DeliveryResult::Gone { error },
            // the provider may or may not have accepted the message; it is retried under the same id
            Meaning::Unreadable => DeliveryResult::Transient {
                error: format!("the provider's response ({status}) does not match sms.http"),
                retry_after: None,
            },
        };
        AttemptReport::of(verdict, status_code)
    }
}

impl Channel for HttpSms {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Sms
    }

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(self.attempt(delivery))
    }

    /// Some of these APIs ignore the key, and each copy of a message is charged.
    fn drops_repeats(&self) -> bool {
        false
    }
}

fn invalid(complaints: Complaints) -> Error {
    complaints.finish().err().unwrap_or_else(|| Error::internal("sms.http is invalid, and no check says why"))
}

/// Returns the index at which the path, the query or the fragment of a URL begins.
fn end_of_place(url: &str) -> usize {
    let host = url.find("://").map_or(0, |at| at + 3);
    url.get(host..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(url.len(), |at| at + host)
}

/// Validates the settings, and collects the errors.
struct Check<'a> {
    variable: Variable<'a>,
    complaints: &'a mut Complaints,
}

impl Check<'_> {
    fn template(&mut self, field: &str, text: &SecretString, encoding: Encoding) -> Option<RequestTemplate> {
        let template = RequestTemplate::new(text, encoding, self.variable);
        self.complaints.check(&format!("sms.http.{field}"), template)
    }

    fn templates<'s>(
        &mut self,
        field: &str,
        texts: impl IntoIterator<Item = (&'s String, &'s SecretString)>,
    ) -> Vec<(String, RequestTemplate)> {
        let mut templates = Vec::new();
        for (name, text) in texts {
            let template = self.template(&format!("{field}.{name}"), text, Encoding::Plain);
            templates.extend(template.map(|template| (name.clone(), template)));
        }
        templates
    }

    /// Returns the base URL, and the template of the rest.
    fn url(&mut self, url: &SecretString) -> (String, Option<RequestTemplate>) {
        let Some(url) = self.complaints.check("sms.http.url", self.with_place(url.expose_secret())) else {
            return Default::default();
        };
        let (base, path) = url.split_at_checked(end_of_place(&url)).unwrap_or((&url, ""));
        if base.contains('{') {
            self.complaints
                .add("sms.http.url", "the host cannot be a template: messages could go to a wrong host");
        }
        if path.contains('#') {
            self.complaints.add("sms.http.url", "must not have a fragment: it would not be sent");
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        (base.to_owned(), self.template("url", &path.into(), Encoding::Percent))
    }

    /// Fills in the variables of the scheme and host, unencoded: `https://${HOST}/…`, `${BASE_URL}/…`.
    fn with_place(&self, url: &str) -> Result<String, String> {
        let end = match url.find('}') {
            Some(end) if url.starts_with("${") => end + 1,
            _ => end_of_place(url),
        };
        let (place, rest) = url.split_at_checked(end).unwrap_or((url, ""));
        let place = resolved(&place.into(), self.variable)?;
        Ok(format!("{}{rest}", place.expose_secret()))
    }

    fn body(&mut self, settings: &HttpSettings, headers: &mut HeaderMap) -> Option<Body> {
        let (kind, body) = match (&settings.form, &settings.json) {
            (Some(_), Some(_)) => {
                self.complaints.add("sms.http.json", "set this or sms.http.form, not both");
                return None;
            }
            (Some(form), None) => {
                ("application/x-www-form-urlencoded", Body::Form(self.templates("form", form)))
            }
            (None, Some(json)) => {
                ("application/json", Body::Json(Box::new(self.template("json", json, Encoding::Json)?)))
            }
            (None, None) => return Some(Body::None),
        };
        if settings.method == Method::Get {
            self.complaints.add("sms.http.method", "GET has no body: move it to sms.http.query");
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Some(body)
    }

    fn authorization(&mut self, settings: &HttpSettings, headers: &mut HeaderMap) {
        let (field, value) = match (&settings.basic, &settings.bearer) {
            (Some(_), Some(_)) => {
                self.complaints.add("sms.http.bearer", "set this or sms.http.basic, not both");
                return;
            }
            (Some(basic), None) => ("sms.http.basic", self.basic(basic)),
            (None, Some(token)) => {
                let token = resolved(token, self.variable);
                ("sms.http.bearer", token.map(|token| format!("Bearer {}", token.expose_secret())))
            }
            (None, None) => return,
        };
        let Some(value) = self.complaints.check(field, value) else { return };
        match HeaderValue::from_str(&value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
            Err(_) => self.complaints.add(field, "must be one line of printable characters"),
        }
    }

    fn basic(&self, basic: &Basic) -> Result<String, String> {
        let user = resolved(&basic.user, self.variable)?;
        let password = resolved(&basic.password, self.variable)?;
        if user.expose_secret().contains(':') {
            return Err("the user must not have a colon".into());
        }
        let both = format!("{}:{}", user.expose_secret(), password.expose_secret());
        Ok(format!("Basic {}", STANDARD.encode(both)))
    }

    /// Returns the headers that depend on the message; adds the constant ones to `common`.
    fn headers(
        &mut self,
        settings: &HttpSettings,
        common: &mut HeaderMap,
    ) -> Vec<(HeaderName, RequestTemplate)> {
        let mut headers = Vec::new();
        for (text, template) in self.templates("headers", &settings.headers) {
            let field = format!("sms.http.headers.{text}");
            let Ok(name) = HeaderName::try_from(&text) else {
                self.complaints.add(field, "is not a header name");
                continue;
            };
            if RESERVED.contains(&name) {
                self.complaints.add(field, "is set by the connection");
            } else if name == AUTHORIZATION && common.contains_key(AUTHORIZATION) {
                self.complaints.add(field, "is set by sms.http.basic or sms.http.bearer");
            } else if let Some(constant) = template.constant() {
                let Ok(mut value) = HeaderValue::from_str(constant) else {
                    self.complaints.add(field, "must be one line of printable characters");
                    continue;
                };
                value.set_sensitive(true);
                common.insert(name, value);
            } else {
                headers.push((name, template));
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests;
