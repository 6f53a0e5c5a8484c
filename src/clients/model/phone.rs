//! Phone numbers as integers: eight bytes in each of millions of rows, and one representation for every spelling.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use super::fields::OperatorCode;
use super::numbering::{self, NumberingPlan, RefusedNumber};

/// An E.164 number: 7 to 15 digits, the country code first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(i64);

/// The largest number of digits: 15 of a number (ITU-T E.164) and 5 of a prefix dialled before it.
const MOST_DIGITS: usize = 15 + 5;

/// The largest number of characters of a number as people write it.
const LONGEST_TEXT: usize = 64;

const FORM: &str = "must be a phone number with its country code, like +7 903 123-45-67";
const UNCLEAR: &str = "is not a number with a country code: write it like +7 903 123-45-67, or set DEFAULT_COUNTRY to \
    accept that country's national numbers";
const NOT_AT_HOME: &str = "is not a number of the default country or of another one; a foreign number begins with + \
    and its country code";
const NO_COUNTRY: &str = "begins with a country code that does not exist";
const LENGTH: &str = "has too few or too many digits for a number of its country";
const ROUNDED: &str =
    "was rounded by a spreadsheet: format the column as text, enter the numbers again and export again";
const EXTENSION: &str = "has an extension, which messages cannot reach: leave it out";

/// The OpenAPI schema of a number as people write it.
pub struct GivenPhoneNumber;

/// The country whose national phone numbers are accepted; by default none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HomeCountry(Option<NumberingPlan>);

impl FromStr for HomeCountry {
    type Err = &'static str;

    /// Parses an ISO 3166-1 alpha-2 code; an empty text means no country.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "" => Ok(Self(None)),
            id => {
                let plan = NumberingPlan::of_country(id)
                    .ok_or("must be a two-letter country code, like RU or DE")?;
                Ok(Self(Some(plan)))
            }
        }
    }
}

/// Set once, so that every entry point of a process parses numbers in the same way.
static HOME: OnceLock<HomeCountry> = OnceLock::new();

impl HomeCountry {
    /// Makes this the country of the process. Until then there is none.
    ///
    /// # Errors
    /// The process already has another one.
    pub fn settle(self) -> Result<(), &'static str> {
        if *HOME.get_or_init(|| self) == self {
            Ok(())
        } else {
            Err("is already set to another country in this process")
        }
    }

    fn of_process() -> Self {
        HOME.get().copied().unwrap_or_default()
    }
}

impl FromStr for PhoneNumber {
    type Err = &'static str;

    /// Parses as [`PhoneNumber::parse`] does, with the home country of this process.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, HomeCountry::of_process())
    }
}

impl PhoneNumber {
    /// Parses a number as people write it: with spaces, brackets, dashes, dots and slashes, with `+` or `00` before the
    /// country code, or as it is dialled within the home country.
    ///
    /// # Errors
    /// The text is not a number. The message says why, or which form is valid, and does not repeat the number.
    pub fn parse(text: &str, home: HomeCountry) -> Result<Self, &'static str> {
        let (digits, is_international) = digits(text)?;
        let found = if is_international {
            numbering::international(&digits)
        } else {
            numbering::dialled(&digits, home.0)
        };
        let (code, number) = found.map_err(|refused| match refused {
            RefusedNumber::NoCountry => NO_COUNTRY,
            RefusedNumber::Length => LENGTH,
            RefusedNumber::Unclear if home.0.is_some() => NOT_AT_HOME,
            RefusedNumber::Unclear => UNCLEAR,
        })?;
        format!("{code}{number}").parse().map_err(|_| LENGTH).and_then(Self::from_number)
    }

    /// Converts the digits of an E.164 number.
    ///
    /// # Errors
    /// The number of digits is not possible.
    pub fn from_number(number: i64) -> Result<Self, &'static str> {
        if !(1_000_000..=999_999_999_999_999).contains(&number) {
            return Err(LENGTH);
        }
        let digits = number.ilog10() + 1;
        let first = number / 10_i64.pow(digits - 1);
        // longer Russian numbers are services and belong to no subscriber
        if first == 7 && digits != 11 {
            return Err(LENGTH);
        }
        Ok(Self(number))
    }

    /// The digits as one number.
    pub fn number(self) -> i64 {
        self.0
    }

    /// Returns the operator code of a Russian number (7ABC…). 76… and 77… belong to Kazakhstan.
    pub fn operator_code(self) -> Option<OperatorCode> {
        match self.0 / 10_000_000 {
            area @ (7000..=7599 | 7800..=7999) => Some(OperatorCode::of_area(area - 7000)),
            _ => None,
        }
    }
}

/// Returns the digits of a number, and true if a plus precedes them.
fn digits(text: &str) -> Result<(String, bool), &'static str> {
    let text = text.trim_matches(is_passed_over);
    if text.chars().nth(LONGEST_TEXT).is_some() {
        return Err(FORM);
    }
    let text = text.strip_prefix("tel:").unwrap_or(text);
    if is_rounded(text) {
        return Err(ROUNDED);
    }
    let text = without_fraction(text);
    let (text, is_international) = match text.strip_prefix('+') {
        // the trunk prefix is not dialled from abroad: +44 (0)20 7946 0000
        Some(rest) => (rest.replacen("(0)", "", 1), true),
        None => (text.to_owned(), false),
    };
    let mut digits = String::with_capacity(MOST_DIGITS);
    for (at, c) in text.char_indices() {
        match c {
            '0'..='9' if digits.len() < MOST_DIGITS => digits.push(c),
            '0'..='9' => return Err(LENGTH),
            '(' | ')' | '.' | '/' => {}
            c if is_dash(c) || is_passed_over(c) => {}
            _ if !digits.is_empty() && is_extension(text.get(at..).unwrap_or_default()) => {
                return Err(EXTENSION);
            }
            _ => return Err(FORM),
        }
    }
    if digits.is_empty() { Err(FORM) } else { Ok((digits, is_international)) }
}

/// Returns true for spaces of every kind, and for the direction marks that a number copied from an address book
/// contains.
fn is_passed_over(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// Returns true if the text begins like an extension: `x12`, `ext. 12`, `доб. 12`, `#12`.
fn is_extension(text: &str) -> bool {
    let text = text.to_lowercase();
    ["x", "ext", "#", ";ext", "доб", "вн"].iter().any(|word| {
        text.strip_prefix(word)
            .is_some_and(|rest| rest.chars().any(|c| c.is_ascii_digit()) && !rest.contains('+'))
    })
}

/// Returns true if a spreadsheet has written the number as `7.90312E+10`.
fn is_rounded(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['E', 'e']) else { return false };
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    are_digits(&mantissa.replacen(['.', ','], "", 1))
        && are_digits(exponent.strip_prefix('+').unwrap_or(exponent))
}

/// Removes the `.0` of a program that read the column as decimal numbers.
fn without_fraction(text: &str) -> &str {
    match text.split_once(['.', ',']) {
        Some((whole, fraction))
            if whole.len() >= 7
                && whole.bytes().all(|b| b.is_ascii_digit())
                && matches!(fraction, "0" | "00") =>
        {
            whole
        }
        _ => text,
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for PhoneNumber {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests;
