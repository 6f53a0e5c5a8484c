//! Conditions over an event's payload, in the language of templates: `payload.total > 100 and payload.country == "DE"`.

use minijinja::tests as kinds;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};

use crate::templates;

/// Characters that one may have.
pub const LONGEST: usize = 500;
/// Instructions that one evaluation may take.
const FUEL: u64 = 10_000;
const NAME: &str = "condition";

/// A condition that was checked.
pub struct Condition {
    /// It renders to something exactly when it holds: an expression of minijinja's borrows the place it lives in.
    environment: Environment<'static>,
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Condition").finish_non_exhaustive()
    }
}

impl Condition {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().nth(LONGEST).is_some() {
            return Err(format!("must be at most {LONGEST} characters"));
        }
        let mut environment = templates::environment(FUEL);
        // what the payload lacks is false, and so is what is asked of it
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.add_test("defined", kinds::is_defined);
        environment.add_test("undefined", kinds::is_undefined);
        environment.add_test("string", kinds::is_string);
        environment.add_test("number", kinds::is_number);
        let refused = |e: minijinja::Error| templates::describe(&e);
        // an expression and nothing around it; then it can stand in a template of ours
        environment.compile_expression(text).map(drop).map_err(refused)?;
        environment
            .add_template_owned(NAME, format!("{{% if ({text}\n) %}}1{{% endif %}}"))
            .map_err(refused)?;
        let condition = Self { environment };
        // filters and tests are looked up only then
        match condition.evaluate(&templates::values(&serde_json::json!({"payload": {}, "event": {}}))) {
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction
                ) =>
            {
                Err(templates::describe(&e))
            }
            _ => Ok(condition),
        }
    }

    fn evaluate(&self, values: &Value) -> Result<bool, minijinja::Error> {
        Ok(!self.environment.get_template(NAME)?.render(values)?.is_empty())
    }

    /// Whether it holds for these values; what cannot be evaluated for them does not.
    pub fn holds(&self, values: &Value) -> bool {
        self.evaluate(values).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(condition: &str, payload: serde_json::Value) -> bool {
        let values = templates::values(&json!({"payload": payload, "event": {"name": "order.shipped"}}));
        Condition::parse(condition).unwrap().holds(&values)
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
            ("payload.coupon is defined", json!({"coupon": null}), false),
            ("payload.coupon is defined", json!({}), false),
            ("event.name == 'order.shipped'", json!({}), true),
            ("payload.country | upper == 'DE'", json!({"country": "de"}), true),
            ("payload.total | int > 100", json!({"total": "x"}), false),
        ] {
            assert_eq!(holds(condition, payload.clone()), expected, "{condition} {payload}");
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
        ] {
            assert!(Condition::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Condition::parse(&"x".repeat(501)).is_err());
    }

    #[test]
    fn what_takes_too_much_work_does_not_hold() {
        let heavy = (0..20).fold("payload.x".to_owned(), |text, _| format!("{text} | replace('x', 'xx')"));
        assert!(!holds(&heavy, json!({"x": "x".repeat(1000)})));
    }
}
