//! Comparisons: truth, equality, order and membership.

use std::cmp::Ordering;

use super::evaluate::Evaluation;
use super::failure::{Evaluated, Stop};
use super::number::Number;
use super::operators::Comparison;
use super::syntax::{Expr, ExprKind, Test};
use super::value::Value;

impl<'a> Evaluation<'a> {
    /// Returns true if an expression counts as true.
    pub(super) fn truth(&mut self, expression: &'a Expr) -> Evaluated<bool> {
        match &expression.node {
            ExprKind::And(left, right) => self.decide(left, right, false),
            ExprKind::Or(left, right) => self.decide(left, right, true),
            ExprKind::Not(of) => {
                self.budget.step()?;
                Ok(!self.truth(of)?)
            }
            ExprKind::Test(test, of) => {
                let value = self.value(of)?;
                Ok(match test {
                    Test::Defined => !value.is_missing(),
                    Test::Undefined => value.is_missing(),
                    Test::Text => matches!(value, Value::Text(_)),
                    Test::Number => value.number().is_some(),
                })
            }
            ExprKind::Compare(first, others) => {
                let mut left = (&**first, self.value(first)?);
                for (comparison, other) in others {
                    let right = (other, self.value(other)?);
                    if !self.compare(*comparison, &left, &right)? {
                        return Ok(false);
                    }
                    left = right;
                }
                Ok(true)
            }
            // a missing value is false
            _ => Ok(self.value(expression)?.is_true()),
        }
    }

    /// Evaluates `and`, which a false side decides, or `or`, which a true side decides. In a condition a side also
    /// decides if the other one is unknown (Kleene's logic).
    fn decide(&mut self, left: &'a Expr, right: &'a Expr, decisive: bool) -> Evaluated<bool> {
        self.budget.step()?;
        match self.truth(left) {
            Ok(found) if found == decisive => Ok(decisive),
            Ok(_) => self.truth(right),
            Err(unknown @ (Stop::NoValue(_) | Stop::Wrong(_))) if self.is_condition => {
                match self.truth(right) {
                    Ok(found) if found == decisive => Ok(decisive),
                    Err(stop @ (Stop::TooLong | Stop::TooMuchWork)) => Err(stop),
                    Ok(_) | Err(_) => Err(unknown),
                }
            }
            Err(stop) => Err(stop),
        }
    }

    fn compare(
        &mut self,
        comparison: Comparison,
        (left_of, left): &(&'a Expr, Value<'a>),
        (right_of, right): &(&'a Expr, Value<'a>),
    ) -> Evaluated<bool> {
        self.budget.step()?;
        let order = match comparison {
            Comparison::Equal => return self.equal(left, right),
            Comparison::NotEqual => return Ok(!self.equal(left, right)?),
            Comparison::In => return self.contains((right_of, right), left),
            Comparison::NotIn => return Ok(!self.contains((right_of, right), left)?),
            _ => self.order((left_of, left), (right_of, right))?,
        };
        Ok(match comparison {
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            _ => order.is_ge(),
        })
    }

    /// Compares two numbers or two texts. A text that is compared with a number is parsed as a number.
    fn order(
        &mut self,
        (left_of, left): (&Expr, &Value<'_>),
        (right_of, right): (&Expr, &Value<'_>),
    ) -> Evaluated<Ordering> {
        if let (Value::Text(a), Value::Text(b)) = (left, right) {
            self.budget.bytes(a.len().min(b.len()))?;
            return Ok(a.cmp(b));
        }
        self.budget.read(left)?;
        self.budget.read(right)?;
        if let Some(order) = left.order_of_numbers(right) {
            return Ok(order);
        }
        let number = |value: &Value<'_>, of: &Expr| {
            let number = match value {
                Value::Text(text) => Number::read(text),
                other => other.number(),
            };
            number.ok_or_else(|| self.wrong_kind(of, value, "a number"))
        };
        Ok(number(left, left_of)?.order(number(right, right_of)?))
    }

    /// Returns true if two values are equal. A text that is compared with a number is parsed as a number, as in
    /// `order`.
    fn equal(&mut self, left: &Value<'_>, right: &Value<'_>) -> Evaluated<bool> {
        self.budget.step()?;
        self.budget.read(left)?;
        self.budget.read(right)?;
        Ok(match (left, right) {
            (Value::Missing, Value::Missing) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => {
                self.budget.bytes(a.len().min(b.len()))?;
                a == b
            }
            (Value::Text(text), number) | (number, Value::Text(text)) => {
                let read = number.number().zip(Number::read(text));
                read.is_some_and(|(number, read)| read.order(number).is_eq())
            }
            (Value::List(a), Value::List(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b.iter()) {
                    if !self.equal(&a.into(), &b.into())? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Map(a), Value::Map(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for ((name, a), (other, b)) in a.iter().zip(b.iter()) {
                    self.budget.bytes(name.len())?;
                    if name != other || !self.equal(&a.into(), &b.into())? {
                        return Ok(false);
                    }
                }
                true
            }
            (left, right) => left.order_of_numbers(right).is_some_and(Ordering::is_eq),
        })
    }

    /// Returns true if a list has an element, an object has a field, or a text has a part.
    fn contains(&mut self, (of, container): (&Expr, &Value<'_>), wanted: &Value<'_>) -> Evaluated<bool> {
        match (container, wanted) {
            (Value::List(items), wanted) => {
                for item in items.iter() {
                    if self.equal(&item.into(), wanted)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Map(fields), Value::Text(name)) => {
                self.budget.look_up(name)?;
                Ok(fields.contains_key(&**name))
            }
            (Value::Text(text), Value::Text(part)) => {
                self.budget.bytes(4 * (text.len() + part.len()))?;
                Ok(text.contains(&**part))
            }
            (Value::Map(_) | Value::Text(_), _) => Ok(false),
            (other, _) => Err(self.wrong_kind(of, other, "a list")),
        }
    }
}
