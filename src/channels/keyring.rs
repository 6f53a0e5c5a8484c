//! The port to named credentials for servers that require authentication. The credentials are stored elsewhere.

use std::future::Future;
use std::pin::Pin;

use hyper::header::{HeaderName, HeaderValue};

/// The header that a credential adds to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Usually `authorization`.
    pub name: HeaderName,
    /// Marked as sensitive.
    pub value: HeaderValue,
    /// The sequence number of the fetch that produced it.
    pub number: u64,
}

/// The reason why there is no authorization. The text reveals nothing of the credential but its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unauthorized {
    /// Retrying does not help: the credential does not exist, or its server refuses it.
    Never(String),
    /// A later attempt may succeed.
    NotNow(String),
    /// This machine could not connect to the token endpoint.
    LocalFault,
}

/// A future [`Authorization`]. Dropping it cancels the fetch; another waiter for the same credential then starts it
/// again.
pub type Authorizing<'a> = Pin<Box<dyn Future<Output = Result<Authorization, Unauthorized>> + Send + 'a>>;

/// The credentials that requests refer to by name.
pub trait Keyring: Send + Sync {
    /// Returns the authorization. Called before every attempt, so implementations cache.
    fn authorize<'a>(&'a self, credential: &'a str) -> Authorizing<'a>;

    /// Reports that the server returned 401: the cached value is fetched again, unless it is newer than
    /// `authorization`.
    fn refuse(&self, credential: &str, authorization: &Authorization);
}
