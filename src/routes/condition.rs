//! Conditions on an event's payload, in the template language: `payload.total > 100 and payload.country == "DE"`.

use crate::templates::Data;
use crate::templates::language::{self, ConditionResult};

/// The longest condition, in characters.
pub const LONGEST: usize = 500;

/// A parsed condition.
#[derive(Debug)]
pub struct Condition(Result<language::Condition, String>);

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// The first error in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().nth(LONGEST).is_some() {
            return Err(format!("must be at most {LONGEST} characters"));
        }
        language::Condition::parse(text).map(|condition| Self(Ok(condition)))
    }

    /// Parses a stored condition. If this version refuses a condition that an earlier one accepted, it never holds, and
    /// reports the error as its reason. Other routes are not affected.
    pub fn stored(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|why| Self(Err(format!("it cannot be read: {why}"))))
    }

    /// Returns `Ok` if it holds for these data.
    ///
    /// # Errors
    /// The part that makes it false, or that does not apply to the data.
    pub fn check(&self, data: &dyn Data) -> Result<(), String> {
        match self.0.as_ref().map_err(Clone::clone)?.verdict(data) {
            ConditionResult::Holds => Ok(()),
            ConditionResult::Fails(why) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(condition: &str, payload: &Value) -> Result<(), String> {
        let data = json!({"payload": payload, "event": {"name": "order.shipped"}});
        Condition::parse(condition).unwrap().check(data.as_object().unwrap())
    }

    #[test]
    fn they_look_at_the_payload_and_the_event() {
        for (condition, payload, expected) in [
            ("payload.total > 100", json!({"total": 150}), true),
            ("payload.total > 100", json!({"total": 50.5}), false),
            ("payload.total > 100", json!({}), false),
            ("payload.user.vip", json!({"user": {"vip": true}}), true),
            ("payload.user.vip", json!({}), false),
            ("not payload.user.vip", json!({}), true),
            ("payload.country in ['DE', 'AT'] and payload.total", json!({"country": "AT", "total": 1}), true),
            ("payload.country in ['DE', 'AT']", json!({"country": "CH"}), false),
            ("payload.country not in ['DE', 'AT']", json!({}), true),
            ("payload.coupon is defined", json!({"coupon": null}), false),
            ("payload.coupon is defined", json!({}), false),
            ("payload.coupon is not defined", json!({}), true),
            ("event.name == 'order.shipped'", json!({}), true),
            ("payload.country | upper == 'DE'", json!({"country": "de"}), true),
            ("payload.total | int > 100", json!({"total": "x"}), false),
            ("payload.total | int > 100", json!({"total": "101"}), true),
        ] {
            assert_eq!(check(condition, &payload).is_ok(), expected, "{condition} {payload}");
        }
    }

    #[test]
    fn a_text_is_never_more_than_a_number_by_its_kind() {
        let condition = "payload.total > 100 and payload.country in ['DE','AT']";
        for (total, why) in [
            (json!("5"), "`payload.total > 100` is false"),
            (json!("5.00"), "`payload.total > 100` is false"),
            (json!([]), "`payload.total` is a list, not a number"),
            (json!({}), "`payload.total` is an object, not a number"),
            (json!("abc"), "`payload.total` is a text, not a number"),
            (json!(true), "`payload.total` is a boolean, not a number"),
            (json!(null), "`payload.total` has no value"),
        ] {
            let payload = json!({"total": total, "country": "DE"});
            assert_eq!(check(condition, &payload).unwrap_err(), why, "{payload}");
        }
        assert_eq!(check(condition, &json!({"country": "DE"})).unwrap_err(), "`payload.total` has no value");
        for total in [json!(500), json!("500"), json!("500.00"), json!(" 500 "), json!("+500")] {
            assert_eq!(check(condition, &json!({"total": total, "country": "DE"})), Ok(()), "{total}");
        }
        let swiss = check(condition, &json!({"total": 500, "country": "CH"})).unwrap_err();
        assert_eq!(swiss, "`payload.country in ['DE','AT']` is false");
    }

    #[test]
    fn what_makes_no_sense_decides_nothing_and_stays_unknown_under_not() {
        for (condition, holds) in [
            ("payload.x > 100 or payload.vip", true),
            ("payload.vip or payload.x > 100", true),
            ("payload.x > 100 or payload.no", false),
            ("not payload.x > 100", false),
            ("not (payload.x > 100 and payload.vip)", false),
            ("not (payload.x > 100 and payload.no)", true),
            ("not (payload.x > 100 or payload.vip)", false),
            ("payload.x * 2 > 100 or payload.vip", true),
        ] {
            let found = check(condition, &json!({"x": "abc", "vip": true, "no": false}));
            assert_eq!(found.is_ok(), holds, "{condition}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for wrong in [
            "",
            "payload.total >",
            "true) %}x{% if (true",
            "payload | nonsense",
            "payload is strange",
            "range(10)",
            "#}",
            "{{ payload }}",
            "payload }}",
            "[1, payload.x]",
            "[[1]]",
        ] {
            assert!(Condition::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Condition::parse(&"x".repeat(501)).is_err());
    }

    #[test]
    fn a_stored_condition_that_cannot_be_read_does_not_hold_and_says_why() {
        let why = Condition::stored("payload.x | nonsense").check(&()).unwrap_err();
        assert!(why.starts_with("it cannot be read: syntax error: unknown filter `nonsense`"), "{why}");
        assert_eq!(Condition::stored("true").check(&()), Ok(()));
    }

    #[test]
    fn what_takes_too_much_work_does_not_hold() {
        let heavy = (0..15).fold("payload.x".to_owned(), |text, _| format!("{text} | replace('x', 'xx')"));
        assert!(check(&heavy, &json!({"x": "x".repeat(1000)})).unwrap_err().contains("too"));
        let same = json!({"x": vec!["y".repeat(60); 1000]});
        let compared = vec!["payload.x == payload.x"; 18].join(" and ");
        assert_eq!(check(&compared, &same).unwrap_err(), "it takes too much work");
    }
}
