//! The reasons why a request has no response.

use thiserror::Error;

use super::target::Refusal;

/// The reason why there is no response. The text contains no part of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestFailure {
    /// The request is not allowed, permanently.
    #[error("{0}")]
    Refused(Refusal),
    /// The name does not exist, or its name servers do not reply.
    #[error("the host name could not be resolved")]
    NameNotFound,
    /// The lookup timed out.
    #[error("the host name was not resolved in time")]
    LookupTimedOut,
    /// No connection could be opened.
    #[error("the host could not be reached")]
    Unreachable,
    /// No connection could be opened, because this machine lacks a resource.
    #[error("{}", crate::egress::local::LOCAL_FAULT)]
    LocalFault,
    /// The TLS handshake failed, for example because of the certificate.
    #[error(
        "the TLS handshake failed: the certificate is not valid for the host, or the host does not speak TLS"
    )]
    Tls,
    /// The timeout expired.
    #[error("no response arrived in time")]
    TimedOut,
    /// The connection ended before a response arrived.
    #[error("the connection broke before a response arrived")]
    CutOff,
    /// The response is not HTTP.
    #[error("the response is not HTTP/1.1")]
    NotHttp,
    /// The head is longer than [`Settings::longest_head`](super::settings::Settings::longest_head).
    #[error("the head of the response is too long")]
    HeadTooLong,
}

impl RequestFailure {
    /// Returns true if a later attempt may succeed.
    pub const fn is_transient(self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}
