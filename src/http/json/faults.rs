//! Finds two faults of JSON that serde accepts: duplicate keys of an object, for which readers take either the first or
//! the last value, and control characters, which neither PostgreSQL nor a recipient's device accepts.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::error::FieldError;

/// The most faults that are reported for one body.
const MOST: usize = 100;
/// The prefix of the keys that serde_json uses for its own types.
const RESERVED: &str = "$serde_json::private::";

enum Frame<'b> {
    Object { keys: HashSet<Cow<'b, str>>, key: Cow<'b, str>, awaits_key: bool },
    Array { index: usize },
}

/// Returns the faults of a body, each with its path: `payload.items[2].name`. If the body is not valid JSON, it returns
/// the faults before the syntax error.
pub(super) fn find(body: &[u8]) -> Vec<FieldError> {
    let (mut stack, mut faults) = (Vec::<Frame<'_>>::new(), Vec::new());
    let mut rest = body;
    while let Some((byte, after)) = rest.split_first()
        && faults.len() < MOST
    {
        rest = after;
        match byte {
            b'{' => {
                stack.push(Frame::Object { keys: HashSet::new(), key: Cow::Borrowed(""), awaits_key: true })
            }
            b'[' => stack.push(Frame::Array { index: 0 }),
            b'}' | b']' => drop(stack.pop()),
            b',' => match stack.last_mut() {
                Some(Frame::Object { awaits_key, .. }) => *awaits_key = true,
                Some(Frame::Array { index }) => *index += 1,
                None => {}
            },
            b'"' => {
                let Some((text, after)) = string(rest) else { break };
                rest = after;
                if let Some(reason) = enter(&mut stack, text) {
                    faults.push(FieldError::new(path(&stack), reason));
                }
            }
            _ => {}
        }
    }
    faults
}

/// Takes the next string, a key or a value, and returns its fault, if any.
fn enter<'b>(stack: &mut [Frame<'b>], text: Cow<'b, str>) -> Option<&'static str> {
    let is_control = text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
    let mut wrong = is_control.then_some("must not contain control characters");
    if let Some(Frame::Object { keys, key, awaits_key }) = stack.last_mut()
        && *awaits_key
    {
        *awaits_key = false;
        *key = text.clone();
        if text.starts_with(RESERVED) {
            wrong = wrong.or(Some("is a reserved key"));
        }
        if !keys.insert(text) {
            wrong = wrong.or(Some("duplicate key: the keys of an object must be unique"));
        }
    }
    wrong
}

/// Reads a string from behind its opening quote; returns its text and the input after its closing quote.
fn string(rest: &[u8]) -> Option<(Cow<'_, str>, &[u8])> {
    let (mut end, mut is_escaped) = (0, false);
    loop {
        match rest.get(end)? {
            b'"' => break,
            b'\\' => {
                is_escaped = true;
                end += 2;
            }
            _ => end += 1,
        }
    }
    let (raw, after) = (rest.get(..end)?, rest.get(end + 1..)?);
    let raw = std::str::from_utf8(raw).ok()?;
    let text = match is_escaped {
        true => Cow::Owned(serde_json::from_str(&format!("\"{raw}\"")).ok()?),
        false => Cow::Borrowed(raw),
    };
    Some((text, after))
}

fn path(stack: &[Frame<'_>]) -> String {
    let mut path = String::new();
    for frame in stack {
        match frame {
            Frame::Object { key, .. } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.extend(key.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
            }
            Frame::Array { index } => path.push_str(&format!("[{index}]")),
        }
    }
    if path.is_empty() { "body".to_owned() } else { path }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn fields(body: &str) -> Vec<String> {
        find(body.as_bytes()).into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_key_that_is_given_twice_is_named_by_its_path() {
        for (body, wrong) in [
            (r#"{"a": 1, "b": {"a": 1}, "c": [{"a": 1}, {"a": 1}]}"#, &[][..]),
            (r#"{"a": 1, "a": 1}"#, &["a"]),
            (r#"{"a": {"b": [0, {"c": "c", "c": "c"}]}}"#, &["a.b[1].c"]),
            (r#"{"n": 1, "\u006e": 2}"#, &["n"]),
            (r#"{"a": "{\"b\": 1, \"b\": 2}"}"#, &[]),
            (r#"{"a": {"x": 1}, "b": "a", "a": [1, {"y": 1, "y": 2}]}"#, &["a", "a[1].y"]),
            (r#"[{"a": 1, "a": 1}]"#, &["[0].a"]),
            (r#"{"": 1, "": 2}"#, &["body"]),
            (r#"{"$serde_json::private::Number": "1"}"#, &["$serde_json::private::Number"]),
        ] {
            assert_eq!(fields(body), wrong, "{body}");
        }
    }

    #[test]
    fn control_characters_are_named_by_their_path_and_line_breaks_are_not() {
        for (body, wrong) in [
            (r#"{"a": "x\u0000y"}"#, &["a"][..]),
            (r#"{"a": ["ok", "\u001b[1m"]}"#, &["a[1]"]),
            ("{\"a\": \"\u{7f}\"}", &["a"]),
            ("{\"a\": \"\u{85}\"}", &["a"]),
            (r#"{"a\u0000": 1}"#, &["a\u{fffd}"]),
            (r#"{"a": "x\n\r\ty", "b": "\\u0000", "c": "\"", "d": "é"}"#, &[]),
        ] {
            assert_eq!(fields(body), wrong, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_left_to_the_reader() {
        for body in ["", "\"", "{\"a", "{\"a\\", "}}}]", "\"\\u00\"", ","] {
            assert_eq!(fields(body), [""; 0], "{body}");
        }
        find(b"{\"\xff\": 1}");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~\u{e9}\\n\\r\\t]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\{,]{0,3}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// JSON that serde writes has neither fault; with a duplicated member at any depth it has one.
        #[test]
        fn what_serde_writes_is_without_fault(value in json()) {
            prop_assert_eq!(fields(&value.to_string()), [""; 0]);
            let twice = format!("{{\"k\": {value}, \"l\": [{value}, {{\"x\": {value}, \"x\": 1}}]}}");
            prop_assert_eq!(fields(&twice), ["l[1].x"]);
        }
    }
}
