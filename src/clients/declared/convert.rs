//! The conversion of values from one type to another.

use chrono::NaiveDate;

use crate::clients::model::AttributeValue;
use crate::kinds::AttributeKind;

/// Words for true and false in the languages of common spreadsheets.
const TRUE: [&str; 16] = [
    "true",
    "t",
    "yes",
    "y",
    "1",
    "on",
    "да",
    "истина",
    "ja",
    "wahr",
    "oui",
    "vrai",
    "sí",
    "si",
    "evet",
    "verdadero",
];
const FALSE: [&str; 15] = [
    "false", "f", "no", "n", "0", "off", "-", "нет", "ложь", "nein", "falsch", "non", "faux", "hayır",
    "falso",
];
/// The largest number of characters of a number.
const LONGEST_NUMBER: usize = 64;

const NO_NUMBER: &str = "must be a number, like 250.7 or 1 250,7";
const NO_BOOLEAN: &str = "must be true or false, yes or no, 1 or 0";
const NO_DATE: &str = "must be a date like 2026-12-01 or 01.12.2026";

/// Converts a value to a type; returns `None` if it has the type already.
///
/// # Errors
/// The value does not fit the type; the message says which values do.
pub fn convert(kind: AttributeKind, value: &AttributeValue) -> Result<Option<AttributeValue>, &'static str> {
    match (kind, value) {
        (AttributeKind::Text, AttributeValue::Text(_))
        | (AttributeKind::Number, AttributeValue::Number(_))
        | (AttributeKind::Boolean, AttributeValue::Flag(_)) => Ok(None),
        (AttributeKind::Text, other) => AttributeValue::text(&other.to_text()).map(Some),
        (AttributeKind::Number, AttributeValue::Flag(_)) => Err(NO_NUMBER),
        (AttributeKind::Number, AttributeValue::Text(text)) => number(text).map(Some).ok_or(NO_NUMBER),
        (AttributeKind::Boolean, other) => flag(&other.to_text()).map(Some).ok_or(NO_BOOLEAN),
        (AttributeKind::Date, AttributeValue::Text(text)) => {
            let day = date(text).ok_or(NO_DATE)?.to_string();
            Ok((day != *text).then_some(AttributeValue::Text(day)))
        }
        (AttributeKind::Date, _) => Err(NO_DATE),
    }
}

fn flag(text: &str) -> Option<AttributeValue> {
    let word = text.trim().to_lowercase();
    let is_one_of = |words: &[&str]| words.contains(&word.as_str());
    (is_one_of(&TRUE) || is_one_of(&FALSE)).then(|| AttributeValue::Flag(is_one_of(&TRUE)))
}

/// Parses a number as people write it. A single comma is a decimal comma. Several equal signs are thousands separators;
/// if points and commas both occur, the last sign is the decimal sign.
fn number(text: &str) -> Option<AttributeValue> {
    let text: String = text.trim().replace('\u{2212}', "-");
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    if digits.len() > LONGEST_NUMBER
        || !digits.starts_with(|first: char| first.is_ascii_digit() || ".,".contains(first))
    {
        return None;
    }
    let (digits, exponent) = match digits.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent),
        None => (digits, ""),
    };
    let (whole, part) = decimal(digits)?;
    let whole = ungrouped(whole)?;
    if !part.bytes().all(|byte| byte.is_ascii_digit()) || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let sign = if text.starts_with('-') { "-" } else { "" };
    let point = if part.is_empty() { "" } else { "." };
    let exponent = if exponent.is_empty() { String::new() } else { format!("e{exponent}") };
    let number: serde_json::Number = format!("{sign}{whole}{point}{part}{exponent}").parse().ok()?;
    number.as_f64().filter(|number| number.is_finite()).map(|_| AttributeValue::Number(number))
}

/// Splits a number at its decimal sign.
fn decimal(digits: &str) -> Option<(&str, &str)> {
    let (points, commas) = (digits.matches('.').count(), digits.matches(',').count());
    if points + commas < 2 {
        return Some(digits.split_once(['.', ',']).unwrap_or((digits, "")));
    }
    if points == 0 || commas == 0 {
        return Some((digits, ""));
    }
    let (last, count) = if digits.rfind('.') > digits.rfind(',') { ('.', points) } else { (',', commas) };
    digits.split_once(last).filter(|_| count == 1)
}

/// Removes thousands separators, which must all be equal and have three digits after each.
fn ungrouped(whole: &str) -> Option<String> {
    let is_sign = |sign: char| sign.is_whitespace() || ".,'’".contains(sign);
    let mut signs = whole.chars().filter(|sign| is_sign(*sign));
    if let Some(first) = signs.next() {
        let mut groups = whole.split(is_sign);
        let begins = groups.next().is_some_and(|group| (1..=3).contains(&group.len()));
        if signs.any(|sign| sign != first) || !begins || !groups.all(|group| group.len() == 3) {
            return None;
        }
    }
    let digits: String = whole.chars().filter(|sign| !is_sign(*sign)).collect();
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)
}

/// Parses a day, or the day of a time. `12/01/2026` is refused, because it is a different day in Europe and America.
fn date(text: &str) -> Option<NaiveDate> {
    let day = text.trim().split(['T', ' ']).next().unwrap_or_default();
    let formats = ["%Y-%m-%d", "%d.%m.%Y", "%Y/%m/%d"];
    let day = formats.iter().find_map(|format| NaiveDate::parse_from_str(day, format).ok())?;
    // a two-digit year would be one of the first century
    use chrono::Datelike;
    (1000..=9999).contains(&day.year()).then_some(day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn converted(kind: AttributeKind, text: &str) -> Option<String> {
        let value = AttributeValue::Text(text.to_owned());
        let converted = convert(kind, &value).ok()?.unwrap_or(value);
        Some(serde_json::to_string(&converted).unwrap())
    }

    #[test]
    fn booleans_are_read_in_the_words_of_people() {
        for text in ["true", "TRUE", " yes ", "1", "да", "Да", "ИСТИНА", "ja", "Evet"] {
            assert_eq!(converted(AttributeKind::Boolean, text).as_deref(), Some("true"), "{text}");
        }
        for text in ["false", "0", "no", "нет", "Нет", "-", "ЛОЖЬ", "nein", "N"] {
            assert_eq!(converted(AttributeKind::Boolean, text).as_deref(), Some("false"), "{text}");
        }
        for text in ["", "2", "maybe", "truee", "yes no"] {
            assert_eq!(converted(AttributeKind::Boolean, text), None, "{text}");
        }
        let of_number = |number: i64| convert(AttributeKind::Boolean, &AttributeValue::Number(number.into()));
        assert_eq!(of_number(1), Ok(Some(AttributeValue::Flag(true))));
        assert!(of_number(2).is_err());
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, number) in [
            ("250.7", "250.7"),
            ("250,7", "250.7"),
            ("1 250", "1250"),
            ("1\u{a0}250,50", "1250.50"),
            ("1\u{202f}250\u{202f}000", "1250000"),
            ("1,250.5", "1250.5"),
            ("1.250,5", "1250.5"),
            ("1,250,000", "1250000"),
            ("1'250.5", "1250.5"),
            ("007", "7"),
            ("-5", "-5"),
            ("\u{2212}5,0", "-5.0"),
            ("+5", "5"),
            (".5", "0.5"),
            ("0", "0"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("1e3", "1e3"),
        ] {
            assert_eq!(
                converted(AttributeKind::Number, text).map(|n| n.replace("e+", "e")).as_deref(),
                Some(number),
                "{text}"
            );
        }
        for text in [
            "", "-", "abc", "1 25", "1,25,000", "1.2.3", "12-5", "1e999", "NaN", "0x1", "5 €", "1 250 0",
            "--5", "1.5,5.5",
        ] {
            assert_eq!(converted(AttributeKind::Number, text), None, "{text}");
        }
        assert!(convert(AttributeKind::Number, &AttributeValue::Flag(true)).is_err());
    }

    #[test]
    fn days_are_read_and_stored_in_one_form() {
        for text in [
            "2026-12-01",
            "01.12.2026",
            "1.12.2026",
            "2026/12/01",
            "2026-12-01T10:00:00Z",
            "2026-12-01 10:00",
        ] {
            assert_eq!(converted(AttributeKind::Date, text).as_deref(), Some("\"2026-12-01\""), "{text}");
        }
        for text in ["", "12/01/2026", "31.02.2026", "2026-13-01", "tomorrow", "01.12.26"] {
            assert_eq!(converted(AttributeKind::Date, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_converted_is_of_its_type_and_stays_what_it_is(text in "[-+0-9., eT/]{0,12}|.{0,8}", code in 0..4_i16) {
            let kind = AttributeKind::from_code(code).unwrap();
            let value = AttributeValue::Text(text);
            if let Ok(converted) = convert(kind, &value) {
                let converted = converted.unwrap_or(value);
                prop_assert_eq!(convert(kind, &converted), Ok(None));
                // the text that an exported file would contain
                let again = AttributeValue::Text(converted.to_text().into_owned());
                prop_assert_eq!(convert(kind, &again).unwrap().unwrap_or(again), converted);
            }
        }
    }
}
