//! What a webhook has to know of the endpoint that it is for.

use std::future::Future;
use std::pin::Pin;

use super::Secret;
use crate::error::Result;
use crate::kinds::Disabled;

/// What is known of an endpoint.
#[derive(Debug, Clone, Default)]
pub struct Endpoint {
    /// To sign with, the newest first. While a secret is being replaced the old one signs as well.
    pub secrets: Vec<Secret>,
    /// Why nothing is sent to it.
    pub disabled: Option<Disabled>,
}

/// What came of an attempt at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It took the message.
    Taken,
    /// It did not, whyever.
    Failed,
    /// It said that it wants no more (410).
    Gone,
}

/// The future of what is known.
pub type Finding<'a> = Pin<Box<dyn Future<Output = Result<Endpoint>> + Send + 'a>>;

/// Knows the endpoints. It is asked before every attempt, so it remembers.
pub trait Directory: Send + Sync {
    /// What is known of the endpoint at this URL; of one that nobody registered, with the default secrets.
    ///
    /// # Errors
    /// When it cannot be known now.
    fn find<'a>(&'a self, url: &'a str) -> Finding<'a>;

    /// Takes note of an attempt. No I/O.
    fn note(&self, url: &str, came: Came);
}

/// The same secrets for all.
pub struct SameForAll(pub Vec<Secret>);

impl Directory for SameForAll {
    fn find<'a>(&'a self, _: &'a str) -> Finding<'a> {
        let endpoint = Endpoint { secrets: self.0.clone(), disabled: None };
        Box::pin(std::future::ready(Ok(endpoint)))
    }

    fn note(&self, _: &str, _: Came) {}
}
