//! How tokens are asked for at an endpoint that a user named: through the guard, like everything that users name.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use url::form_urlencoded::{Serializer, byte_serialize};

use super::model::{ClientAuth, Shown};
use crate::db::types::Timestamp;
use crate::egress::guard::{Ask, BodyEnd, Failure as NoAnswer, Guard, Plain};
use crate::oauth::{Account, FORM, Failure, Fetch, Grant, LONGEST_ANSWER, answer};

/// For the body of an answer whose head is there.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A token endpoint, and as whom it is asked.
pub(super) struct Asking {
    guard: Arc<Guard>,
    url: String,
    r#as: Who,
}

enum Who {
    /// The request is the same each time.
    Client { authorization: Option<HeaderValue>, body: String },
    /// It is signed each time.
    Account { account: Box<Account>, scope: String },
}

impl Asking {
    /// With the client credentials grant (RFC 6749, 4.4.2). None for what is no such client.
    pub(super) fn as_client(guard: Arc<Guard>, shown: Shown, secret: &str) -> Option<Self> {
        let Shown::Oauth2 { token_url: url, client_id, scope, audience, client_auth } = shown else {
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

    /// As a service account. None for what is no key of one.
    pub(super) fn as_account(guard: Arc<Guard>, scopes: &[String], json: String) -> Option<Self> {
        let account = Account::parse(&json.into()).ok()?;
        let url = account.token_uri.clone();
        Some(Self { guard, url, r#as: Who::Account { account: Box::new(account), scope: scopes.join(" ") } })
    }

    /// The headers and the body of a request.
    fn request(&self, now: Timestamp) -> Result<(HeaderMap, String), Failure> {
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
                Ok((headers, account.request(scope, now).map_err(Failure::lasting)?))
            }
        }
    }
}

/// RFC 6749, 2.3.1: name and secret are encoded as in a form before they are put together.
fn basic(client_id: &str, secret: &str) -> Option<HeaderValue> {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = STANDARD.encode(format!("{}:{}", encoded(client_id), encoded(secret)));
    let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Fetch for Asking {
    async fn fetch(&self, now: Timestamp) -> Result<Grant, Failure> {
        // anew each time: what may be asked is a matter of the configuration
        let target = self.guard.check_url(&self.url, Plain::WithinAllowed);
        let target =
            target.map_err(|why| Failure::lasting(format!("the token endpoint may not be asked: {why}")))?;
        let (headers, body) = self.request(now)?;
        let ask = Ask {
            method: Method::POST,
            target,
            headers,
            body,
            most_body: LONGEST_ANSWER,
            timeout: None,
            body_timeout: BODY_TIMEOUT,
        };
        let answered = self.guard.send(ask).await.map_err(|why| match why {
            NoAnswer::Refused(why) => Failure::lasting(format!("the token endpoint may not be asked: {why}")),
            NoAnswer::LocalFault => Failure::local(),
            why => Failure::passing(format!("the token endpoint gave no answer: {why}")),
        })?;
        // what is cut off is no JSON
        let body = if answered.end == BodyEnd::Whole { answered.body } else { Vec::new() };
        answer::read(answered.status, &body, "check the credential")
    }
}
