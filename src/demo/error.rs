//! The errors of the demo.

use std::io;

use super::generator::TooManyClients;

/// The reason why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There are not enough phone numbers.
    #[error(transparent)]
    TooManyClients(#[from] TooManyClients),
    /// Something could not be started, or the output is closed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The service could not be reached.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// The service did not do what it should, or the final counts do not agree.
    #[error("{0}")]
    Failed(String),
}

impl DemoError {
    /// Creates the error with this message.
    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }
}

/// `std::result::Result` with [`DemoError`].
pub type Result<T> = std::result::Result<T, DemoError>;
