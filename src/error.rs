//! The error type of all layers: it has exactly what a caller must know. Only `http::problem` turns it into a response.

use std::fmt;
use std::time::Duration;

/// The cause of an [`Error::Internal`], [`Error::Unavailable`] or [`Error::OutcomeUnknown`], kept for the log.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// A validation error of one field.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// The name of the field as the caller wrote it, with dots for nested fields.
    #[schema(example = "ends_at")]
    pub field: String,
    /// The reason, and the accepted values.
    #[schema(example = "must be after starts_at")]
    pub reason: String,
}

impl FieldError {
    /// Creates an error of `field`. Both texts are shortened, since they may repeat long input of the caller.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: shortened(field.into(), 200), reason: shortened(reason.into(), 1000) }
    }

    /// Returns the same error of a field nested in `place`.
    pub fn within(&self, place: &str) -> Self {
        Self::new(format!("{place}.{}", self.field), &self.reason)
    }

    /// Returns the errors of items of the list `field`, each with its index; at most the first hundred.
    pub fn of_each<'f>(field: &str, wrong: impl Iterator<Item = (usize, &'f [Self])>) -> Vec<Self> {
        let each = wrong.flat_map(|(index, fields)| {
            let place = format!("{field}[{index}]");
            fields.iter().map(move |wrong| wrong.within(&place))
        });
        each.take(MOST_COMPLAINTS).collect()
    }
}

/// Shortens a text to `most` characters and an ellipsis.
pub fn shortened(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The reason why an operation failed.
#[derive(Debug)]
pub enum Error {
    /// The input is well-formed, but some fields are invalid.
    Invalid(Vec<FieldError>),
    /// The input cannot be parsed.
    Malformed(String),
    /// The media type of the input is not supported.
    Unsupported(String),
    /// The input is too large.
    TooLarge(String),
    /// The input arrives too slowly.
    TooSlow(String),
    /// No resource of this kind has this id.
    NotFound {
        /// The kind of resource, a word of the glossary.
        what: &'static str,
        /// The requested id.
        id: String,
    },
    /// The state of the resource does not allow the operation.
    Conflict(String),
    /// An equal request is in progress.
    InWork {
        /// The explanation for the caller.
        why: String,
        /// The time after which the response should be available.
        retry_after: Duration,
    },
    /// The service is overloaded and did not start the operation.
    Busy(String),
    /// A dependency is unavailable and nothing was changed; the same call may succeed later.
    Unavailable(Source),
    /// A dependency failed during the operation, which may have taken effect or not.
    OutcomeUnknown(Source),
    /// A defect, or a fault that the caller cannot fix.
    Internal(Source),
}

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates the validation error of one field.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(field, reason)])
    }

    /// Creates the error for an unknown id of the kind `what`.
    pub fn not_found(what: &'static str, id: impl fmt::Display) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// Creates an internal error from a message.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into().into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(fields) => {
                let list: Vec<_> = fields.iter().map(|e| format!("{}: {}", e.field, e.reason)).collect();
                write!(f, "{}", list.join("; "))
            }
            Self::Malformed(why)
            | Self::Unsupported(why)
            | Self::TooLarge(why)
            | Self::TooSlow(why)
            | Self::Conflict(why)
            | Self::InWork { why, .. }
            | Self::Busy(why) => {
                write!(f, "{why}")
            }
            Self::NotFound { what, id } => write!(f, "no {what} has the id {id}"),
            Self::Unavailable(source) => write!(f, "temporarily unavailable: {source}"),
            Self::OutcomeUnknown(source) => write!(f, "the outcome is unknown: {source}"),
            Self::Internal(source) => write!(f, "internal error: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unavailable(source) | Self::OutcomeUnknown(source) | Self::Internal(source) => {
                Some(source.as_ref())
            }
            _ => None,
        }
    }
}

/// Collects the validation errors of one input, so that the caller gets all of them at once. Only the first hundred are
/// kept, since a response must not be many times longer than its request.
#[derive(Debug, Default)]
pub struct Complaints(Vec<FieldError>);

const MOST_COMPLAINTS: usize = 100;

impl Complaints {
    /// Adds an error of `field`.
    pub fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        if self.0.len() < MOST_COMPLAINTS {
            self.0.push(FieldError::new(field, reason));
        }
    }

    /// Returns the value, or adds an error of `field`.
    pub fn check<T, E: fmt::Display>(&mut self, field: &str, value: std::result::Result<T, E>) -> Option<T> {
        value.map_err(|reason| self.add(field, reason.to_string())).ok()
    }

    /// Returns the value, or adds the errors of an [`Error::Invalid`].
    ///
    /// # Errors
    /// Any other error.
    pub fn gather<T>(&mut self, value: Result<T>) -> Result<Option<T>> {
        match value {
            Ok(value) => Ok(Some(value)),
            Err(Error::Invalid(fields)) => {
                fields.into_iter().for_each(|wrong| self.add(wrong.field, wrong.reason));
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Ends the collection.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are errors.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}
