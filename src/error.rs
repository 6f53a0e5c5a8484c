//! What a caller must know when something does not work. One type for all layers; `http::problem` alone turns
//! it into a response.

use std::fmt;
use std::time::Duration;

/// Any error behind an [`Error::Internal`], [`Error::Unavailable`] or [`Error::OutcomeUnknown`], kept whole for the log.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// One thing wrong with one field of the input.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Name of the field as the caller wrote it, dotted where nested.
    #[schema(example = "ends_at")]
    pub field: String,
    /// What is wrong and what would be right.
    #[schema(example = "must be after starts_at")]
    pub reason: String,
}

impl FieldError {
    /// A complaint about `field`. Both may repeat what the caller wrote, which may be long: they are cut short.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: shortened(field.into(), 200), reason: shortened(reason.into(), 1000) }
    }

    /// The same complaint about a field of what stands at `place`.
    pub fn within(&self, place: &str) -> Self {
        Self::new(format!("{place}.{}", self.field), &self.reason)
    }

    /// Complaints about several of the things that came together under `field`, each at its place; the first hundred.
    pub fn of_each<'f>(field: &str, wrong: impl Iterator<Item = (usize, &'f [Self])>) -> Vec<Self> {
        let each = wrong.flat_map(|(index, fields)| {
            let place = format!("{field}[{index}]");
            fields.iter().map(move |wrong| wrong.within(&place))
        });
        each.take(MOST_COMPLAINTS).collect()
    }
}

fn shortened(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Why an operation was not done.
#[derive(Debug)]
pub enum Error {
    /// The input is well-formed and wrong: which fields, and what would be right.
    Invalid(Vec<FieldError>),
    /// The input cannot be read at all.
    Malformed(String),
    /// The input is of a media type that is not taken here.
    Unsupported(String),
    /// The input is larger than is taken here.
    TooLarge(String),
    /// The input comes more slowly than is waited for.
    TooSlow(String),
    /// Nothing of this kind has this id.
    NotFound {
        /// The kind of thing, a word of the glossary.
        what: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// The state of the thing does not allow it.
    Conflict(String),
    /// An equal request is being worked on.
    InWork {
        /// What to do about it.
        why: String,
        /// When its answer should be there.
        retry_after: Duration,
    },
    /// So much is asked at once that this is not even begun.
    Busy(String),
    /// A dependency is away and nothing was changed; the same call may work later.
    Unavailable(Source),
    /// A dependency went away in the middle: what was asked for may be done or not.
    OutcomeUnknown(Source),
    /// A defect or a fault that the caller cannot mend.
    Internal(Source),
}

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(field, reason)])
    }

    /// Nothing of the kind `what` has this id.
    pub fn not_found(what: &'static str, id: impl fmt::Display) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// An internal error made of a sentence.
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

/// Collects the complaints about one input, so that a caller hears of all wrong fields at once; of the first hundred,
/// since an answer must not be many times longer than its request.
#[derive(Debug, Default)]
pub struct Complaints(Vec<FieldError>);

const MOST_COMPLAINTS: usize = 100;

impl Complaints {
    /// Notes that `field` is wrong.
    pub fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        if self.0.len() < MOST_COMPLAINTS {
            self.0.push(FieldError::new(field, reason));
        }
    }

    /// The value, or a noted complaint about `field`.
    pub fn check<T, E: fmt::Display>(&mut self, field: &str, value: std::result::Result<T, E>) -> Option<T> {
        value.map_err(|reason| self.add(field, reason.to_string())).ok()
    }

    /// The value, or the complaints of an [`Error::Invalid`], noted.
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

    /// # Errors
    /// [`Error::Invalid`] when anything was noted.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}
