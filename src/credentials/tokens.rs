//! Token requests of credentials. Users choose the token endpoint, so the requests pass the guard.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use url::form_urlencoded::{Serializer, byte_serialize};

use super::model::{ClientAuth, CredentialSummary};
use crate::db::types::Timestamp;
use crate::egress::guard::{BodyEnd, Guard, HttpRequest, PlainHttp, RequestFailure};
use crate::oauth::{Account, FORM, Fetch, Grant, LONGEST_ANSWER, TokenFailure, answer};

/// The timeout for the body of a response after its headers.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A token endpoint, and the identity for which tokens are requested.
pub(super) struct TokenRequest {
    guard: Arc<Guard>,
    url: String,
    r#as: Who,
}

enum Who {
    /// An OAuth client, whose request is the same each time.
    Client { authorization: Option<HeaderValue>, body: String },
    /// A service account, whose request is signed each time.
    Account { account: Box<Account>, scope: String },
}

impl TokenRequest {
    /// Creates requests with the client credentials grant (RFC 6749, 4.4.2). Returns `None` for another kind of
    /// credential.
    pub(super) fn as_client(guard: Arc<Guard>, shown: CredentialSummary, secret: &str) -> Option<Self> {
        let CredentialSummary::Oauth2 { token_url: url, client_id, scope, audience, client_auth } = shown
        else {
            return None;
        };
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in [("scope", &scope), ("audience", &audience)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        let authorization = match client_auth {
            ClientAuth::Basic => Some(basic(&client_id, secret)?),
            ClientAuth::Body => {
                form.append_pair("client_id", &client_id).append_pair("client_secret", secret);
                None
            }
        };
        Some(Self { guard, url, r#as: Who::Client { authorization, body: form.finish() } })
    }

    /// Creates requests for a service account. Returns `None` if `json` is not the key of one.
    pub(super) fn as_account(guard: Arc<Guard>, scopes: &[String], json: String) -> Option<Self> {
        let account = Account::parse(&json.into()).ok()?;
        let url = account.token_uri.clone();
        Some(Self { guard, url, r#as: Who::Account { account: Box::new(account), scope: scopes.join(" ") } })
    }

    /// Returns the headers and the body of a request.
    fn request(&self, now: Timestamp) -> Result<(HeaderMap, String), TokenFailure> {
        let mut headers = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static("application/json")),
            (CONTENT_TYPE, HeaderValue::from_static(FORM)),
        ]);
        match &self.r#as {
            Who::Client { authorization, body } => {
                headers.extend(authorization.clone().map(|value| (AUTHORIZATION, value)));
                Ok((headers, body.clone()))
            }
            Who::Account { account, scope } => {
                Ok((headers, account.request(scope, now).map_err(TokenFailure::lasting)?))
            }
        }
    }
}

/// Returns the `Authorization` of a client. By RFC 6749, 2.3.1, id and secret are form-encoded before they are joined.
fn basic(client_id: &str, secret: &str) -> Option<HeaderValue> {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = STANDARD.encode(format!("{}:{}", encoded(client_id), encoded(secret)));
    let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Fetch for TokenRequest {
    async fn fetch(&self, now: Timestamp) -> Result<Grant, TokenFailure> {
        // checked for each request, because the configuration of the guard may have changed since the URL was stored
        let target = self.guard.check_url(&self.url, PlainHttp::WithinAllowed);
        let target = target
            .map_err(|why| TokenFailure::lasting(format!("the token endpoint is not allowed: {why}")))?;
        let (headers, body) = self.request(now)?;
        let ask = HttpRequest {
            method: Method::POST,
            target,
            headers,
            body,
            most_body: LONGEST_ANSWER,
            timeout: None,
            body_timeout: BODY_TIMEOUT,
        };
        let answered = self.guard.send(ask).await.map_err(|why| match why {
            RequestFailure::Refused(why) => {
                TokenFailure::lasting(format!("the token endpoint is not allowed: {why}"))
            }
            RequestFailure::LocalFault => TokenFailure::local(),
            why => TokenFailure::passing(format!("the token endpoint did not respond: {why}")),
        })?;
        // a truncated body is not valid JSON
        let body = if answered.end == BodyEnd::Whole { answered.body } else { Vec::new() };
        answer::read(answered.status, &body, "check the credential")
    }
}
