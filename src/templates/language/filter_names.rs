//! The filters by their names, with their numbers of arguments.

use super::operators::Arithmetic;

/// A filter after `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateFilter {
    /// Replaces a missing value; with a second argument also a value that counts as false.
    Default,
    /// Converts to upper case.
    Upper,
    /// Converts to lower case.
    Lower,
    /// Converts the first letter of each word to upper case.
    Title,
    /// Converts the first letter to upper case, and the others to lower case.
    Capitalize,
    /// Removes spaces, or the given characters, from both ends.
    Trim,
    /// Replaces each occurrence of a text.
    Replace,
    /// Adds a text at the end.
    Append,
    /// Adds a text at the beginning.
    Prepend,
    /// Keeps the first characters, with `…` if there are more.
    Truncate,
    /// Joins the elements of a list with a text between them.
    Join,
    /// Returns the number of elements or characters.
    Length,
    /// Returns the first element or character.
    First,
    /// Returns the last element or character.
    Last,
    /// Returns the whole part of a number.
    Int,
    /// Converts to a floating point number; parses a text.
    Float,
    /// Rounds to a number of decimal places.
    Round,
    /// Removes the sign.
    Abs,
    /// Applies an operator.
    Calculate(Arithmetic),
}

/// All filters, each with its minimum and maximum number of arguments.
const FILTERS: &[(&str, TemplateFilter, usize, usize)] = &[
    ("default", TemplateFilter::Default, 0, 2),
    ("upper", TemplateFilter::Upper, 0, 0),
    ("lower", TemplateFilter::Lower, 0, 0),
    ("title", TemplateFilter::Title, 0, 0),
    ("capitalize", TemplateFilter::Capitalize, 0, 0),
    ("trim", TemplateFilter::Trim, 0, 1),
    ("replace", TemplateFilter::Replace, 2, 2),
    ("append", TemplateFilter::Append, 1, 1),
    ("prepend", TemplateFilter::Prepend, 1, 1),
    ("truncate", TemplateFilter::Truncate, 1, 2),
    ("join", TemplateFilter::Join, 0, 1),
    ("length", TemplateFilter::Length, 0, 0),
    ("first", TemplateFilter::First, 0, 0),
    ("last", TemplateFilter::Last, 0, 0),
    ("int", TemplateFilter::Int, 0, 1),
    ("float", TemplateFilter::Float, 0, 1),
    ("round", TemplateFilter::Round, 0, 1),
    ("abs", TemplateFilter::Abs, 0, 0),
    ("plus", TemplateFilter::Calculate(Arithmetic::Add), 1, 1),
    ("minus", TemplateFilter::Calculate(Arithmetic::Subtract), 1, 1),
    ("times", TemplateFilter::Calculate(Arithmetic::Multiply), 1, 1),
    ("divided_by", TemplateFilter::Calculate(Arithmetic::Divide), 1, 1),
    ("modulo", TemplateFilter::Calculate(Arithmetic::Remainder), 1, 1),
];

impl TemplateFilter {
    /// Returns the filter with this name.
    ///
    /// # Errors
    /// The list of filters.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        if let Some((_, filter, ..)) = FILTERS.iter().find(|(known, ..)| *known == name) {
            return Ok(*filter);
        }
        let name: String = name.chars().take(60).collect();
        let known: Vec<_> = FILTERS.iter().map(|(name, ..)| *name).collect();
        Err(format!("unknown filter `{name}`; the filters are {}", known.join(", ")))
    }

    /// Checks the number of arguments.
    ///
    /// # Errors
    /// The number of arguments that the filter takes.
    pub(super) fn check_arguments(self, name: &str, count: usize) -> Result<(), String> {
        let entry = FILTERS.iter().find(|(_, filter, ..)| *filter == self);
        match entry {
            Some((.., fewest, most)) if !(*fewest..=*most).contains(&count) => Err(match (fewest, most) {
                (_, 0) => format!("the filter `{name}` takes no arguments"),
                (1, 1) => format!("the filter `{name}` takes one argument"),
                (fewest, most) if fewest == most => format!("the filter `{name}` takes {most} arguments"),
                (fewest, most) => format!("the filter `{name}` takes {fewest} to {most} arguments"),
            }),
            _ => Ok(()),
        }
    }
}
