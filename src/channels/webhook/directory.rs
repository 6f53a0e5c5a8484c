//! The port to the settings of webhook endpoints.

use std::future::Future;
use std::pin::Pin;

use super::secret::Secret;
use crate::error::Result;
use crate::kinds::Disabled;

/// The settings of an endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointSettings {
    /// The signing secrets, newest first. During a rotation the old secret signs as well.
    pub secrets: Vec<Secret>,
    /// The reason why nothing is sent to it, if it is disabled.
    pub disabled: Option<Disabled>,
}

/// The result of an attempt at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointResult {
    /// The endpoint accepted the message.
    Taken,
    /// The endpoint did not accept the message, for any reason.
    Failed,
    /// The endpoint returned 410 Gone.
    Gone,
}

/// The future of an endpoint's settings.
pub type EndpointFuture<'a> = Pin<Box<dyn Future<Output = Result<EndpointSettings>> + Send + 'a>>;

/// Looks up endpoints. Called before every attempt, so implementations cache.
pub trait EndpointDirectory: Send + Sync {
    /// Returns the settings of the endpoint at this URL. An unregistered endpoint has the default secrets.
    ///
    /// # Errors
    /// If the settings cannot be read at present.
    fn find<'a>(&'a self, url: &'a str) -> EndpointFuture<'a>;

    /// Records the result of an attempt. No I/O.
    fn note(&self, url: &str, came: EndpointResult);
}

/// A directory that returns the same secrets for every URL.
pub struct SameForAll(pub Vec<Secret>);

impl EndpointDirectory for SameForAll {
    fn find<'a>(&'a self, _: &'a str) -> EndpointFuture<'a> {
        let endpoint = EndpointSettings { secrets: self.0.clone(), disabled: None };
        Box::pin(std::future::ready(Ok(endpoint)))
    }

    fn note(&self, _: &str, _: EndpointResult) {}
}
