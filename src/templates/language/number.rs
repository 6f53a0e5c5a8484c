//! Numbers: exact for whole numbers, 64-bit floating point otherwise.

use std::cmp::Ordering;
use std::fmt::{self, Write};

use super::operators::Arithmetic;

/// The most digits of a text that is parsed as a whole number.
const MOST_DIGITS: usize = 38;
/// The most characters of a text that is parsed as a number.
const LONGEST: usize = 400;
/// The most characters of a number in the output.
pub const WIDEST: usize = 400;

/// A number of the data or of a template.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number.
    Whole(i128),
    /// A finite number with a fraction, or a number too large to be exact.
    Float(f64),
}

impl Number {
    /// Converts a JSON number, rounded if it has too many digits.
    pub fn of_json(number: &serde_json::Number) -> Self {
        let digits = number.as_str();
        if let Ok(whole) = digits.parse() {
            return Self::Whole(whole);
        }
        Self::Float(digits.parse().unwrap_or(0.0_f64).clamp(f64::MIN, f64::MAX))
    }

    /// Returns true if the output of the number is exactly these characters.
    pub fn is_written(self, digits: &str) -> bool {
        // the shortest form of a float has at most 17 digits, a sign, a point and leading zeros
        let is_short = digits.len() <= 40 && !digits.contains(['e', 'E']);
        let mut rest = Expected(digits);
        is_short && write!(rest, "{self}").is_ok() && rest.0.is_empty()
    }

    /// Parses a number in plain decimal notation: `500`, `-2.50`. Spaces around it are ignored.
    pub fn read(text: &str) -> Option<Self> {
        // checked first, because all else reads the whole text
        if text.len() > LONGEST {
            return None;
        }
        let text = text.trim();
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (digits, None),
        };
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || fraction.is_some_and(|part| !is_digits(part)) {
            return None;
        }
        if fraction.is_none() && whole.len() <= MOST_DIGITS {
            return text.parse().ok().map(Self::Whole);
        }
        text.parse().ok().and_then(Self::finite)
    }

    fn finite(value: f64) -> Option<Self> {
        // adding zero turns a negative zero into a positive one, which people expect to read
        value.is_finite().then_some(Self::Float(value + 0.0))
    }

    /// Returns the nearest floating point number.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Float(value) => value,
        }
    }

    /// Returns the whole part.
    pub fn truncated(self) -> Self {
        match self {
            Self::Whole(_) => self,
            Self::Float(value) => Self::Whole(value as i128),
        }
    }

    /// Returns true if it is zero, which counts as false.
    pub fn is_zero(self) -> bool {
        match self {
            Self::Whole(whole) => whole == 0,
            Self::Float(value) => value == 0.0,
        }
    }

    /// Returns the approximate number of characters in the output.
    pub fn width(self) -> usize {
        match self {
            Self::Whole(_) => 40,
            Self::Float(value) if value.abs() < 1e17 && value.abs() > 1e-7 => 20,
            // written without an exponent
            Self::Float(_) => WIDEST,
        }
    }

    /// Rounds half to even to `places` decimal places, as Jinja does. If `places` is not zero, a whole number gets a
    /// decimal place too: `1250.0`.
    pub fn rounded(self, places: usize) -> Self {
        match self {
            Self::Whole(whole) if places > 0 && whole.unsigned_abs() < 1 << f64::MANTISSA_DIGITS => {
                Self::Float(whole as f64)
            }
            Self::Whole(_) => self,
            // it has no fraction, and may have three hundred digits to write and to read
            Self::Float(value) if value.abs() >= (1_u64 << f64::MANTISSA_DIGITS) as f64 => self,
            Self::Float(value) => Self::Float(format!("{value:.places$}").parse().unwrap_or(value)),
        }
    }

    /// Returns the number without its sign.
    pub fn abs(self) -> Self {
        match self {
            Self::Whole(whole) => whole.checked_abs().map_or(Self::Float((whole as f64).abs()), Self::Whole),
            Self::Float(value) => Self::Float(value.abs()),
        }
    }

    /// Returns the result of an operator.
    ///
    /// # Errors
    /// The reason, for a division by zero or a result that is too large.
    pub fn calculate(self, operator: Arithmetic, other: Self) -> Result<Self, &'static str> {
        const TOO_LARGE: &str = "is too large";
        let is_division =
            matches!(operator, Arithmetic::Divide | Arithmetic::FloorDivide | Arithmetic::Remainder);
        if is_division && other.is_zero() {
            return Err("divides by zero");
        }
        if let (Self::Whole(a), Self::Whole(b)) = (self, other) {
            let whole = match operator {
                Arithmetic::Add => a.checked_add(b),
                Arithmetic::Subtract => a.checked_sub(b),
                Arithmetic::Multiply => a.checked_mul(b),
                Arithmetic::FloorDivide => floored(a, b).map(|(quotient, _)| quotient),
                Arithmetic::Remainder => floored(a, b).map(|(_, remainder)| remainder),
                Arithmetic::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
                Arithmetic::Divide => None,
            };
            if let Some(whole) = whole {
                return Ok(Self::Whole(whole));
            }
        }
        let (a, b) = (self.as_f64(), other.as_f64());
        let value = match operator {
            Arithmetic::Add => a + b,
            Arithmetic::Subtract => a - b,
            Arithmetic::Multiply => a * b,
            Arithmetic::Divide => a / b,
            Arithmetic::FloorDivide => (a / b).floor(),
            Arithmetic::Remainder => match a % b {
                remainder if remainder != 0.0 && (remainder < 0.0) != (b < 0.0) => remainder + b,
                remainder => remainder,
            },
            Arithmetic::Power => a.powf(b),
        };
        Self::finite(value).ok_or(TOO_LARGE)
    }

    /// Compares two numbers. The comparison is also exact between a whole number and a fraction.
    pub fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(&b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Self::Whole(a), Self::Float(b)) => whole_to_float(a, b),
            (Self::Float(a), Self::Whole(b)) => whole_to_float(b, a).reverse(),
        }
    }
}

/// Returns the quotient and the remainder of a division that rounds down, as Jinja's does. The remainder has the sign
/// of the divisor.
fn floored(a: i128, b: i128) -> Option<(i128, i128)> {
    let (quotient, remainder) = (a.checked_div(b)?, a.checked_rem(b)?);
    if remainder != 0 && (remainder < 0) != (b < 0) {
        return Some((quotient - 1, remainder + b));
    }
    Some((quotient, remainder))
}

/// Compares two numbers in plain decimal notation, with any number of digits. Returns `None` if one has an exponent.
pub fn order_of_digits(a: &str, b: &str) -> Option<Ordering> {
    let ((a_negative, a_whole, a_fraction), (b_negative, b_whole, b_fraction)) = (parts(a)?, parts(b)?);
    let order = |whole: &str, fraction: &str, other: &str, other_fraction: &str| {
        // without leading zeros the longer whole part is the larger one; fractions without trailing zeros compare as
        // texts
        whole
            .len()
            .cmp(&other.len())
            .then_with(|| whole.cmp(other))
            .then_with(|| fraction.cmp(other_fraction))
    };
    Some(match (a_negative, b_negative) {
        (false, false) => order(a_whole, a_fraction, b_whole, b_fraction),
        (true, true) => order(b_whole, b_fraction, a_whole, a_fraction),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    })
}

/// Returns the sign, the whole part and the fraction of a number, without insignificant zeros. Zero has no sign.
fn parts(digits: &str) -> Option<(bool, &str, &str)> {
    let (is_negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits),
    };
    if digits.bytes().any(|byte| !byte.is_ascii_digit() && byte != b'.') {
        return None;
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    Some((is_negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction))
}

/// Compares the whole part, then the fraction. The conversion saturates, which is right for floats beyond an `i128`.
fn whole_to_float(whole: i128, float: f64) -> Ordering {
    let order = whole.cmp(&(float.trunc() as i128));
    order.then_with(|| 0.0.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal))
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => write!(f, "{whole}"),
            // as Jinja writes it: 3.0 is not 3
            Self::Float(value) if value.fract() == 0.0 => write!(f, "{value}.0"),
            Self::Float(value) => write!(f, "{value}"),
        }
    }
}

/// The expected rest of the output.
struct Expected<'a>(&'a str);

impl Write for Expected<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_ordered_however_many_there_are() {
        for (a, b, order) in [
            ("12345678901234567890123", "12345678901234567890124", Some(Ordering::Less)),
            ("123456789012345678.02", "123456789012345678.01", Some(Ordering::Greater)),
            ("1.50", "1.5", Some(Ordering::Equal)),
            ("-0.0", "0", Some(Ordering::Equal)),
            ("-2", "-10", Some(Ordering::Greater)),
            ("-0.1", "0.1", Some(Ordering::Less)),
            ("0.09", "0.1", Some(Ordering::Less)),
            ("1e3", "1000", None),
        ] {
            assert_eq!(order_of_digits(a, b), order, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn digits_are_ordered_as_numbers_are(a in -10_000_i64..10_000, b in -10_000_i64..10_000) {
            let written = |n: i64| format!("{}{}.{:02}", if n < 0 { "-" } else { "" }, n.abs() / 100, n.abs() % 100);
            prop_assert_eq!(order_of_digits(&written(a), &written(b)), Some(a.cmp(&b)));
        }
    }
}
