//! Phone numbers as numbers: eight bytes in a row that exists by the million, and one way to write each.

use std::fmt;
use std::str::FromStr;

use super::fields::OperatorCode;

/// An E.164 number: 7 to 15 digits, the first of them a country's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(i64);

const FORM: &str =
    "must be the 7 to 15 digits of an international number, country code first, like 79031234567";
const RUSSIAN_LENGTH: &str = "must have 11 digits, since it begins with 7";

impl PhoneNumber {
    /// # Errors
    /// Says which form is right; it does not repeat the number.
    pub fn from_number(number: i64) -> Result<Self, &'static str> {
        if !(1_000_000..=999_999_999_999_999).contains(&number) {
            return Err(FORM);
        }
        let digits = number.ilog10() + 1;
        let first = number / 10_i64.pow(digits - 1);
        if first == 7 && digits != 11 {
            return Err(RUSSIAN_LENGTH);
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

impl FromStr for PhoneNumber {
    type Err = &'static str;

    /// Digits, with or without a plus before them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        // a leading zero would vanish in the number; i64's own parser takes signs
        if !digits.starts_with(|c: char| matches!(c, '1'..='9'))
            || !digits.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(FORM);
        }
        digits.parse().map_err(|_| FORM).and_then(Self::from_number)
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_international_number_is_refused() {
        for text in [
            "",
            "+",
            "++79031234567",
            "-79031234567",
            "7 903 123 45 67",
            "8(903)1234567",
            "079031234567",
            "123456",
            "1234567890123456",
            "99999999999999999999999",
            "7903123456",
            "790312345678",
            "٧٩٠٣١٢٣٤٥٦٧",
            "7.9031234567E10",
        ] {
            assert!(text.parse::<PhoneNumber>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_russian_numbers_carry_an_operator_code() {
        let code = |text: &str| {
            let number: PhoneNumber = text.parse().unwrap();
            number.operator_code().map(|c| c.to_string())
        };
        assert_eq!(code("79031234567"), Some("903".into()));
        assert_eq!(code("+74951234567"), Some("495".into()));
        assert_eq!(code("70121234567"), Some("012".into()));
        assert_eq!(code("77011234567"), None);
        assert_eq!(code("76011234567"), None);
        assert_eq!(code("4915112345678"), None);
        assert_eq!(code("1234567"), None);
    }

    proptest! {
        #[test]
        fn every_number_reads_back_as_it_was_written(text in "[1-689][0-9]{6,14}|7[0-9]{10}", plus: bool) {
            let input = if plus { format!("+{text}") } else { text.clone() };
            let number: PhoneNumber = input.parse().unwrap();
            prop_assert_eq!(number.to_string(), text);
            prop_assert_eq!(PhoneNumber::from_number(number.number()), Ok(number));
        }

        #[test]
        fn text_and_number_agree_on_what_is_a_phone_number(number in 0..2_000_000_000_000_000_i64) {
            let from_text = number.to_string().parse::<PhoneNumber>();
            prop_assert_eq!(from_text.is_ok(), PhoneNumber::from_number(number).is_ok());
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            if let Ok(number) = text.parse::<PhoneNumber>() {
                prop_assert_eq!(number.to_string(), text.trim_start_matches('+'));
            }
        }
    }
}
