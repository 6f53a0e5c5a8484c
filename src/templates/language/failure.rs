//! The reasons why an evaluation stops, and why a template cannot be rendered.

/// The reason why a template cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderFailure {
    /// A placeholder has no value.
    NoValue {
        /// The placeholder as it is written.
        placeholder: String,
        /// The line of the tag.
        line: usize,
    },
    /// A value has the wrong kind. The text names the placeholder.
    Wrong(String),
    /// The result would be too long.
    TooLong,
    /// The work or the memory of one rendering is exhausted.
    TooMuchWork {
        /// The line of the tag at which it was exhausted.
        line: usize,
    },
}

/// The reason why an evaluation stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// An expression has no value.
    NoValue(String),
    /// A value has the wrong kind.
    Wrong(String),
    TooLong,
    TooMuchWork,
}

pub(super) type Evaluated<T> = Result<T, Stop>;

/// Returns the number of the line with this offset, from 1.
pub(super) fn line_of(source: &str, offset: usize) -> usize {
    source.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
