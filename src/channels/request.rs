//! HTTP requests on behalf of users, and the reports of their results.
//!
//! Each attempt carries the message's id as its `Idempotency-Key`, unless the request sets its own. A request is done
//! by a status below 400, except a redirect that the request counts as a failure. A report is done by 2xx alone. Other
//! results are retried according to the request ([`RetryOn`](super::RetryOn)), after `Retry-After` if present.
//!
//! A report is signed according to Standard Webhooks 1.0.0 (<https://www.standardwebhooks.com>) if its URL has a
//! secret.

mod sandbox;

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

pub use sandbox::SandboxRequests;

use super::channel::{AttemptFuture, Channel};
use super::delivery::Delivery;
use super::hook::deferred;
use super::http::{IDEMPOTENCY_KEY, retry_after};
use super::keyring::{Authorization, Keyring, Unauthorized};
use super::report::{AttemptReport, DeliveryResult, StoredResponse};
use super::request_spec::{AttemptFailure, RequestSpec};
use super::webhook::{self, EndpointDirectory, ResultReporter, signature_headers};
use crate::clock::Clock;
use crate::egress::guard::{BodyEnd, Guard, HttpRequest, HttpResponse, PlainHttp, RequestFailure};
use crate::kinds::ChannelKind;

/// Bytes of a response's body that are stored.
pub const MOST_BODY: usize = 64 * 1024;

/// The adapter that sends users' HTTP requests.
pub struct HttpRequests {
    guard: Arc<Guard>,
    directory: Arc<dyn EndpointDirectory>,
    keyring: Arc<dyn Keyring>,
    clock: Clock,
}

impl HttpRequests {
    /// Creates the adapter. The directory provides the secrets that sign reports.
    pub fn new(
        guard: Arc<Guard>,
        (directory, keyring): (Arc<dyn EndpointDirectory>, Arc<dyn Keyring>),
        clock: Clock,
    ) -> Self {
        Self { guard, directory, keyring, clock }
    }

    async fn attempt(&self, delivery: Delivery) -> AttemptReport {
        let Some(spec) = delivery.request.clone() else {
            return AttemptReport::permanent(None, "the message has no request");
        };
        let target = match self.guard.check_url(&spec.url, plain(&spec)) {
            Ok(target) => target,
            Err(why) => return AttemptReport::permanent(None, why.to_string()),
        };
        let Some((method, mut headers)) = head(&delivery, &spec) else {
            return AttemptReport::permanent(None, "the stored request cannot be read");
        };
        let mut noting = None;
        if spec.is_report {
            let Ok(endpoint) = self.directory.find(&spec.url).await else {
                return deferred(None, "the endpoint's settings could not be read", None);
            };
            if let Some(why) = endpoint.disabled {
                return AttemptReport::permanent(None, webhook::reason(why));
            }
            let body = spec.body.as_deref().unwrap_or_default();
            let Some(signed) = signature_headers(delivery.id, &endpoint.secrets, body, &self.clock) else {
                return AttemptReport::permanent(None, "the report cannot be signed");
            };
            headers.extend(signed);
            noting = Some(ResultReporter::new(self.directory.as_ref(), &spec.url));
        }
        let authorization = match self.authorize(&spec, &mut headers).await {
            Ok(authorization) => authorization,
            Err(answer) => {
                // the endpoint was not contacted
                noting.into_iter().for_each(ResultReporter::forget);
                return answer;
            }
        };
        let ask = HttpRequest {
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

    /// Adds the header of the request's credential.
    async fn authorize(
        &self,
        spec: &RequestSpec,
        headers: &mut HeaderMap,
    ) -> Result<Option<Authorization>, AttemptReport> {
        let Some(name) = &spec.credential else { return Ok(None) };
        match self.keyring.authorize(name).await {
            Ok(authorization) => {
                headers.insert(authorization.name.clone(), authorization.value.clone());
                Ok(Some(authorization))
            }
            Err(Unauthorized::Never(why)) => Err(AttemptReport::permanent(None, why)),
            Err(Unauthorized::NotNow(why)) => Err(deferred(None, why, None)),
            Err(Unauthorized::LocalFault) => Err(AttemptReport::local_fault()),
        }
    }

    fn judge(
        &self,
        spec: &RequestSpec,
        answered: HttpResponse,
        authorization: Option<&Authorization>,
    ) -> AttemptReport {
        let status = answered.status;
        let wish = retry_after(&answered.headers, self.clock.now());
        let verdict = if spec.is_done_by(status.as_u16()) {
            DeliveryResult::Delivered
        } else {
            let mut error = format!("the server returned {status}");
            if status.is_redirection() {
                error.push_str("; redirects are not followed: use the URL that it leads to");
            }
            let is_stale = match (authorization, &spec.credential) {
                (Some(authorization), Some(name)) if status == StatusCode::UNAUTHORIZED => {
                    self.keyring.refuse(name, authorization);
                    true
                }
                _ => false,
            };
            if spec.is_report && status == StatusCode::GONE {
                DeliveryResult::Gone { error }
            } else if is_stale || spec.tries_again(AttemptFailure::Status(status.as_u16())) {
                DeliveryResult::Deferred { error, retry_after: wish }
            } else {
                DeliveryResult::Permanent { error }
            }
        };
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answered.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        let response = StoredResponse {
            status: status.as_u16(),
            headers: headers.collect(),
            body: answered.body,
            is_cut: answered.end != BodyEnd::Whole,
        };
        AttemptReport {
            response: Some(Arc::new(response)),
            ..AttemptReport::of(verdict, Some(status.as_u16()))
        }
    }
}

/// Allows `http` to the same networks as `https`, unless a credential would be readable on the way.
pub fn plain(spec: &RequestSpec) -> PlainHttp {
    if spec.credential.is_some() { PlainHttp::WithinAllowed } else { PlainHttp::Anywhere }
}

fn head(delivery: &Delivery, spec: &RequestSpec) -> Option<(Method, HeaderMap)> {
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

fn unanswered(spec: &RequestSpec, failure: RequestFailure) -> AttemptReport {
    let came = match failure {
        RequestFailure::Refused(why) => return AttemptReport::permanent(None, why.to_string()),
        RequestFailure::LocalFault => return AttemptReport::local_fault(),
        RequestFailure::TimedOut | RequestFailure::LookupTimedOut => AttemptFailure::TimedOut,
        _ => AttemptFailure::Nothing,
    };
    let error = failure.to_string();
    if spec.tries_again(came) { deferred(None, error, None) } else { AttemptReport::permanent(None, error) }
}

impl Channel for HttpRequests {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Request
    }

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(self.attempt(delivery))
    }

    fn has_many_servers(&self) -> bool {
        true
    }
}
