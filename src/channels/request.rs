//! HTTP requests that somebody asked for, and the reports of their results.
//!
//! Each attempt bears the message's id as its `Idempotency-Key`, unless the request has one of its own. A status below 400
//! is the end of it, unless it is a redirect that the request counts as a failure; of a report, 2xx alone. What else comes
//! is tried again as the request says ([`Again`]), after `Retry-After` if there is one.
//!
//! A report is signed as Standard Webhooks 1.0.0 asks (<https://www.standardwebhooks.com>), if there is a secret for its
//! URL.

mod sandbox;
mod spec;

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

pub use sandbox::SandboxRequests;
pub use spec::{Again, Came, Response, Spec};

use super::hook::deferred;
use super::http::{IDEMPOTENCY_KEY, retry_after};
use super::keyring::{Authorization, Keyring, Unauthorized};
use super::webhook::{self, Directory, Noting, signature_headers};
use super::{Answer, Channel, Delivery, Sending, Verdict};
use crate::clock::Clock;
use crate::egress::guard::{Answered, Ask, BodyEnd, Failure, Guard, Plain};
use crate::kinds::ChannelKind;

/// Bytes of an answer's body that are kept.
pub const MOST_BODY: usize = 64 * 1024;

/// The adapter.
pub struct HttpRequests {
    guard: Arc<Guard>,
    directory: Arc<dyn Directory>,
    keyring: Arc<dyn Keyring>,
    clock: Clock,
}

impl HttpRequests {
    /// Through this guard; reports are signed with what the directory knows of their URLs.
    pub fn new(
        guard: Arc<Guard>,
        (directory, keyring): (Arc<dyn Directory>, Arc<dyn Keyring>),
        clock: Clock,
    ) -> Self {
        Self { guard, directory, keyring, clock }
    }

    async fn attempt(&self, delivery: Delivery) -> Answer {
        let Some(spec) = delivery.request.clone() else {
            return Answer::permanent(None, "there is no request to make");
        };
        let target = match self.guard.check_url(&spec.url, plain(&spec)) {
            Ok(target) => target,
            Err(why) => return Answer::permanent(None, why.to_string()),
        };
        let Some((method, mut headers)) = head(&delivery, &spec) else {
            return Answer::permanent(None, "the stored request cannot be read");
        };
        let mut noting = None;
        if spec.is_report {
            let Ok(endpoint) = self.directory.find(&spec.url).await else {
                return deferred(None, "what is known of the endpoint could not be read", None);
            };
            if let Some(why) = endpoint.disabled {
                return Answer::permanent(None, webhook::reason(why));
            }
            let body = spec.body.as_deref().unwrap_or_default();
            let Some(signed) = signature_headers(delivery.id, &endpoint.secrets, body, &self.clock) else {
                return Answer::permanent(None, "the report cannot be signed");
            };
            headers.extend(signed);
            noting = Some(Noting::new(self.directory.as_ref(), &spec.url));
        }
        let authorization = match self.authorize(&spec, &mut headers).await {
            Ok(authorization) => authorization,
            Err(answer) => {
                // it was never asked
                noting.into_iter().for_each(Noting::forget);
                return answer;
            }
        };
        let ask = Ask {
            method,
            target,
            headers,
            body: spec.body.clone().unwrap_or_default(),
            most_body: MOST_BODY,
            body_timeout: spec.timeout(),
            timeout: Some(spec.timeout()),
        };
        let answer = match self.guard.send(ask).await {
            Ok(answered) => self.judge(&spec, answered, authorization.as_ref()),
            Err(failure) => unanswered(&spec, failure),
        };
        if let Some(noting) = noting {
            noting.end(&answer);
        }
        answer
    }

    /// Adds what the credential of the request says.
    async fn authorize(&self, spec: &Spec, headers: &mut HeaderMap) -> Result<Option<Authorization>, Answer> {
        let Some(name) = &spec.credential else { return Ok(None) };
        match self.keyring.authorize(name).await {
            Ok(authorization) => {
                headers.insert(authorization.name.clone(), authorization.value.clone());
                Ok(Some(authorization))
            }
            Err(Unauthorized::Never(why)) => Err(Answer::permanent(None, why)),
            Err(Unauthorized::NotNow(why)) => Err(deferred(None, why, None)),
            Err(Unauthorized::LocalFault) => Err(Answer::local_fault()),
        }
    }

    fn judge(&self, spec: &Spec, answered: Answered, authorization: Option<&Authorization>) -> Answer {
        let status = answered.status;
        let wish = retry_after(&answered.headers, self.clock.now());
        let verdict = if spec.is_done_by(status.as_u16()) {
            Verdict::Delivered
        } else {
            let mut error = format!("the server answered {status}");
            if status.is_redirection() {
                error.push_str("; redirects are not followed: give the URL that it leads to");
            }
            let is_stale = match (authorization, &spec.credential) {
                (Some(authorization), Some(name)) if status == StatusCode::UNAUTHORIZED => {
                    self.keyring.refuse(name, authorization);
                    true
                }
                _ => false,
            };
            if spec.is_report && status == StatusCode::GONE {
                Verdict::Gone { error }
            } else if is_stale || spec.tries_again(Came::Status(status.as_u16())) {
                Verdict::Deferred { error, retry_after: wish }
            } else {
                Verdict::Permanent { error }
            }
        };
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answered.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        let response = Response {
            status: status.as_u16(),
            headers: headers.collect(),
            body: answered.body,
            is_cut: answered.end != BodyEnd::Whole,
        };
        Answer { response: Some(Arc::new(response)), ..Answer::of(verdict, Some(status.as_u16())) }
    }
}

/// `http` leads wherever `https` may, unless a credential would be seen on the way.
pub fn plain(spec: &Spec) -> Plain {
    if spec.credential.is_some() { Plain::WithinAllowed } else { Plain::Anywhere }
}

fn head(delivery: &Delivery, spec: &Spec) -> Option<(Method, HeaderMap)> {
    let method = Method::from_bytes(spec.verb.as_bytes()).ok()?;
    let mut headers = HeaderMap::with_capacity(spec.headers.len() + 2);
    for (name, value) in &spec.headers {
        let mut value = HeaderValue::from_str(value).ok()?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        value.set_sensitive(name == AUTHORIZATION);
        headers.append(name, value);
    }
    if spec.is_json {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    let id = HeaderValue::from_str(&delivery.id.to_string()).ok()?;
    headers.entry(IDEMPOTENCY_KEY).or_insert(id);
    Some((method, headers))
}

fn unanswered(spec: &Spec, failure: Failure) -> Answer {
    let came = match failure {
        Failure::Refused(why) => return Answer::permanent(None, why.to_string()),
        Failure::LocalFault => return Answer::local_fault(),
        Failure::TimedOut | Failure::LookupTimedOut => Came::TimedOut,
        _ => Came::Nothing,
    };
    let error = failure.to_string();
    if spec.tries_again(came) { deferred(None, error, None) } else { Answer::permanent(None, error) }
}

impl Channel for HttpRequests {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Request
    }

    fn send(&self, delivery: Delivery) -> Sending<'_> {
        Box::pin(self.attempt(delivery))
    }

    fn has_many_servers(&self) -> bool {
        true
    }
}
