//! Where the access tokens for FCM come from: the token endpoint of the service account, which the operator named.

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};

use crate::db::types::Timestamp;
use crate::egress::{self, Endpoint, NoAnswer};
use crate::error::Result;
use crate::oauth::account::FIREBASE_SCOPE;
use crate::oauth::{Account, FORM, Failure, Fetch, Grant, LONGEST_ANSWER, answer};

/// An account and its token endpoint.
pub(super) struct TokenEndpoint {
    account: Account,
    endpoint: Endpoint,
}

/// The token endpoint of this account.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) naming `field` for a `token_uri` that cannot be used.
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
    async fn fetch(&self, now: Timestamp) -> Result<Grant, Failure> {
        let body = self.account.request(FIREBASE_SCOPE, now).map_err(Failure::lasting)?;
        let reply = self.endpoint.post("", self.endpoint.headers().clone(), body).await;
        let reply = reply.map_err(|why| match why {
            NoAnswer::LocalFault => Failure::local(),
            NoAnswer::Unreachable => Failure::passing("the token endpoint could not be reached"),
            NoAnswer::Broken(how) => {
                Failure::passing(format!("the token endpoint broke the connection ({how})"))
            }
        })?;
        let status = reply.status();
        // what is cut off is no JSON
        let body = reply.body(LONGEST_ANSWER).await.unwrap_or_default();
        answer::read(status, &body, "check the service account")
    }
}
