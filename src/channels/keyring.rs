//! What lets a request in at a server that wants to know who asks: credentials that are kept elsewhere, by their names.

use std::future::Future;
use std::pin::Pin;

use hyper::header::{HeaderName, HeaderValue};

/// What a credential adds to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Most often `authorization`.
    pub name: HeaderName,
    /// Marked as sensitive.
    pub value: HeaderValue,
    /// Which of all that were fetched it is.
    pub number: u64,
}

/// Why there is none, in words that bear nothing of the credential but its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unauthorized {
    /// And there will not be by itself: it is not there, or its server refuses it.
    Never(String),
    /// And there may be later.
    NotNow(String),
    /// This machine could make no connection to whoever grants it.
    LocalFault,
}

/// A future [`Authorization`]. Dropping it gives up what it fetches; whoever waits for the same fetches it then.
pub type Authorizing<'a> = Pin<Box<dyn Future<Output = Result<Authorization, Unauthorized>> + Send + 'a>>;

/// The credentials that requests name.
pub trait Keyring: Send + Sync {
    /// Asked before every attempt, so it remembers.
    fn authorize<'a>(&'a self, credential: &'a str) -> Authorizing<'a>;

    /// The server answered 401 to it: what was fetched is fetched anew, unless it is new.
    fn refuse(&self, credential: &str, authorization: &Authorization);
}
