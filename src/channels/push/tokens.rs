//! Fetches access tokens for FCM from the token endpoint that the service account names.

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};

use crate::db::types::Timestamp;
use crate::egress::{self, Endpoint, NoResponse};
use crate::error::Result;
use crate::oauth::account::FIREBASE_SCOPE;
use crate::oauth::{Account, FORM, Fetch, Grant, LONGEST_ANSWER, TokenFailure, answer};

/// An account and its token endpoint.
pub(super) struct TokenEndpoint {
    account: Account,
    endpoint: Endpoint,
}

/// Creates the client of this account's token endpoint.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) with `field`, for a `token_uri` that cannot be used.
pub(super) fn endpoint(field: &str, account: Account) -> Result<TokenEndpoint> {
    let headers = HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/json")),
        (CONTENT_TYPE, HeaderValue::from_static(FORM)),
        (USER_AGENT, HeaderValue::from_static(egress::USER_AGENT)),
    ]);
    let endpoint = Endpoint::new(&format!("{field}: token_uri"), &account.token_uri, headers)?;
    Ok(TokenEndpoint { account, endpoint })
}

impl Fetch for TokenEndpoint {
    async fn fetch(&self, now: Timestamp) -> Result<Grant, TokenFailure> {
        let body = self.account.request(FIREBASE_SCOPE, now).map_err(TokenFailure::lasting)?;
        let reply = self.endpoint.post("", self.endpoint.headers().clone(), body).await;
        let reply = reply.map_err(|why| match why {
            NoResponse::LocalFault => TokenFailure::local(),
            NoResponse::Unreachable => TokenFailure::passing("the token endpoint could not be reached"),
            NoResponse::Broken(how) => {
                TokenFailure::passing(format!("the connection to the token endpoint broke ({how})"))
            }
        })?;
        let status = reply.status();
        // a truncated body is not valid JSON
        let body = reply.body(LONGEST_ANSWER).await.unwrap_or_default();
        answer::read(status, &body, "check the service account")
    }
}
