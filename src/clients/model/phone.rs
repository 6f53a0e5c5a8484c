//! Phone numbers as numbers: eight bytes in a row that exists by the million, and one way to write each.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use super::fields::OperatorCode;
use super::numbering::{self, Plan, Refused};

/// An E.164 number: 7 to 15 digits, the country code first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(i64);

/// The most digits of a number (ITU-T E.164), and of what may be dialled before it.
const MOST_DIGITS: usize = 15 + 5;

/// Characters of a number as people write it.
const LONGEST_TEXT: usize = 64;

const FORM: &str = "must be a phone number with its country code, like +7 903 123-45-67";
const UNCLEAR: &str = "is no number with a country code: write it like +7 903 123-45-67, or set DEFAULT_COUNTRY to the \
    country whose national numbers are meant";
const NOT_AT_HOME: &str = "is no number of the default country, nor of another one; a foreign number begins with + and its \
    country code";
const NO_COUNTRY: &str = "begins with a country code that does not exist";
const LENGTH: &str = "has too few or too many digits for a number of its country";
const ROUNDED: &str =
    "was rounded by a spreadsheet: format the column as text, enter the numbers again and export it anew";
const EXTENSION: &str = "has an extension, which no message can reach: leave it out";

/// A number as people write it, for the API's document.
pub struct GivenPhoneNumber;

/// The country whose national phone numbers are understood; by default none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HomeCountry(Option<Plan>);

impl FromStr for HomeCountry {
    type Err = &'static str;

    /// An ISO 3166-1 alpha-2 code, or nothing for no country.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "" => Ok(Self(None)),
            id => {
                let plan =
                    Plan::of_country(id).ok_or("must be the two letters of a country, like RU or DE")?;
                Ok(Self(Some(plan)))
            }
        }
    }
}

/// Set once: how numbers are read is the same at every door of a process.
static HOME: OnceLock<HomeCountry> = OnceLock::new();

impl HomeCountry {
    /// Makes it the country of this process. Until then there is none.
    ///
    /// # Errors
    /// Says that the process has another one.
    pub fn settle(self) -> Result<(), &'static str> {
        if *HOME.get_or_init(|| self) == self {
            Ok(())
        } else {
            Err("is another one already in this process")
        }
    }

    fn of_process() -> Self {
        HOME.get().copied().unwrap_or_default()
    }
}

impl FromStr for PhoneNumber {
    type Err = &'static str;

    /// As [`PhoneNumber::parse`], with the home country of this process.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, HomeCountry::of_process())
    }
}

impl PhoneNumber {
    /// Reads a number as people write it: with spaces, brackets, dashes, dots and slashes, `+` or `00` before the country
    /// code, or as it is dialled within the home country.
    ///
    /// # Errors
    /// Says what is wrong or which form is right; it does not repeat the number.
    pub fn parse(text: &str, home: HomeCountry) -> Result<Self, &'static str> {
        let (digits, is_international) = digits(text)?;
        let found = if is_international {
            numbering::international(&digits)
        } else {
            numbering::dialled(&digits, home.0)
        };
        let (code, number) = found.map_err(|refused| match refused {
            Refused::NoCountry => NO_COUNTRY,
            Refused::Length => LENGTH,
            Refused::Unclear if home.0.is_some() => NOT_AT_HOME,
            Refused::Unclear => UNCLEAR,
        })?;
        format!("{code}{number}").parse().map_err(|_| LENGTH).and_then(Self::from_number)
    }

    /// Takes a number that is E.164's digits.
    ///
    /// # Errors
    /// Says that it cannot be one.
    pub fn from_number(number: i64) -> Result<Self, &'static str> {
        if !(1_000_000..=999_999_999_999_999).contains(&number) {
            return Err(LENGTH);
        }
        let digits = number.ilog10() + 1;
        let first = number / 10_i64.pow(digits - 1);
        // Russia's longer ones are services that are called, and nobody's
        if first == 7 && digits != 11 {
            return Err(LENGTH);
        }
        Ok(Self(number))
    }

    /// The digits as one number.
    pub fn number(self) -> i64 {
        self.0
    }

    /// The code that a Russian number (7ABC…) carries. 76… and 77… are Kazakhstan's.
    pub fn operator_code(self) -> Option<OperatorCode> {
        match self.0 / 10_000_000 {
            area @ (7000..=7599 | 7800..=7999) => Some(OperatorCode::of_area(area - 7000)),
            _ => None,
        }
    }
}

/// The digits of a number, and whether a plus stands before them.
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
        // the trunk prefix that is left out when one calls from abroad: +44 (0)20 7946 0000
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

/// Spaces of every kind, and the marks of direction that come along when a number is copied from an address book.
fn is_passed_over(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// Returns whether this begins like an extension: `x12`, `ext. 12`, `доб. 12`, `#12`.
fn is_extension(text: &str) -> bool {
    let text = text.to_lowercase();
    ["x", "ext", "#", ";ext", "доб", "вн"].iter().any(|word| {
        text.strip_prefix(word)
            .is_some_and(|rest| rest.chars().any(|c| c.is_ascii_digit()) && !rest.contains('+'))
    })
}

/// Returns whether a spreadsheet has written the number as `7.90312E+10`.
fn is_rounded(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['E', 'e']) else { return false };
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    are_digits(&mantissa.replacen(['.', ','], "", 1))
        && are_digits(exponent.strip_prefix('+').unwrap_or(exponent))
}

/// Without the `.0` of a program that took the column for fractions.
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
