//! Message texts with placeholders: `Dear {{ name }}`. Strict about unknown names, bounded in work and in output; what
//! is filled in is data and never read as a template.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};

/// The longest text that a mailing may have, in characters.
pub const LONGEST_TEXT: usize = 1000;
/// The longest text that a template may grow to, in characters: ten segments of a text message.
pub const LONGEST_RENDERED: usize = 1530;
/// Instructions that one rendering may take; a text of a thousand characters needs far fewer.
const FUEL: u64 = 20_000;

/// A text that was checked and is ready to be filled.
pub struct Template {
    environment: Environment<'static>,
    placeholders: BTreeSet<String>,
    /// The text itself when it has nothing to fill: most mailings need no rendering.
    plain: Option<String>,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("placeholders", &self.placeholders).finish_non_exhaustive()
    }
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let length = text.chars().count();
        if text.trim().is_empty() {
            return Err("must not be empty".into());
        }
        if length > LONGEST_TEXT {
            return Err(format!("has {length} characters; at most {LONGEST_TEXT} are allowed"));
        }
        if text.contains('\0') {
            return Err("must not hold the character NUL".into());
        }
        let mut environment = filters();
        environment.add_template_owned("text", text.to_owned()).map_err(|e| describe(&e))?;
        let template = environment.get_template("text").map_err(|e| describe(&e))?;
        let placeholders: BTreeSet<String> = template.undeclared_variables(false).into_iter().collect();
        // minijinja looks filters up when it renders: try once, and mind only what no recipient could mend
        let sample: BTreeMap<String, Value> =
            placeholders.iter().map(|name| (name.clone(), "1".into())).collect();
        if let Err(e) = template.render(Value::from(sample))
            && matches!(
                e.kind(),
                ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction
            )
        {
            return Err(describe(&e));
        }
        let plain = (!text.contains('{')).then(|| text.to_owned());
        Ok(Self { environment, placeholders, plain })
    }

    /// Names the placeholders that these values leave empty.
    fn missing(&self, values: &Value) -> String {
        let is_missing = |name: &&String| values.get_attr(name).is_ok_and(|value| value.is_undefined());
        let names: Vec<String> =
            self.placeholders.iter().filter(is_missing).map(|name| format!("`{name}`")).collect();
        if names.is_empty() {
            // the name has a value, and what is asked of the value is not there
            return "a placeholder asks for a part of a value that has no parts".into();
        }
        format!("the client has no value for the placeholder {}", names.join(", "))
    }

    /// The names that must be filled.
    pub fn placeholders(&self) -> &BTreeSet<String> {
        &self.placeholders
    }

    /// The text for one recipient. `values` is asked for only when there is something to fill.
    ///
    /// # Errors
    /// Why this recipient cannot have this text, in words that name no value.
    pub fn render(&self, values: impl FnOnce() -> Value) -> Result<String, String> {
        if let Some(text) = &self.plain {
            return Ok(text.clone());
        }
        let template = self.environment.get_template("text").map_err(|e| describe(&e))?;
        let values = values();
        let text = template.render(&values).map_err(|e| match e.kind() {
            ErrorKind::UndefinedError => self.missing(&values),
            _ => describe(&e),
        })?;
        if text.trim().is_empty() {
            return Err("the text is empty for this recipient".into());
        }
        if text.chars().count() > LONGEST_RENDERED {
            return Err(format!("the text is longer than {LONGEST_RENDERED} characters for this recipient"));
        }
        Ok(text)
    }
}

/// Filters only, no functions and no includes: a text of a mailing is no program.
fn filters() -> Environment<'static> {
    use minijinja::filters;
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(50);
    environment.add_filter("default", filters::default);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("title", filters::title);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("round", filters::round);
    environment.add_filter("int", filters::int);
    environment
}

/// minijinja's message without the template's text around it; a value of the recipient's is not repeated.
fn describe(error: &minijinja::Error) -> String {
    let place = error.line().map_or(String::new(), |line| format!(" in line {line}"));
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("the template takes too much work{place}"),
        (ErrorKind::SyntaxError, Some(detail)) => format!("syntax error{place}: {detail}"),
        (kind, Some(detail)) if kind == ErrorKind::UnknownFilter => format!("{kind}{place}: {detail}"),
        (kind, _) => format!("{kind}{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    #[test]
    fn placeholders_are_filled_and_listed() {
        let template = Template::parse("Dear {{ name }}, {{ city | upper }}!").unwrap();
        assert_eq!(template.placeholders().iter().map(String::as_str).collect::<Vec<_>>(), ["city", "name"]);
        assert_eq!(
            template.render(|| context! { name => "Ann", city => "Omsk" }).unwrap(),
            "Dear Ann, OMSK!"
        );
    }

    #[test]
    fn a_placeholder_without_a_value_is_an_error_unless_it_has_a_default() {
        let strict = Template::parse("Dear {{ name }}").unwrap();
        assert!(strict.render(|| context! {}).unwrap_err().contains("`name`"));
        let lenient = Template::parse("Dear {{ name | default('friend') }}").unwrap();
        assert_eq!(lenient.render(|| context! {}).unwrap(), "Dear friend");
    }

    #[test]
    fn a_value_is_data_and_never_a_template() {
        let template = Template::parse("{{ name }}").unwrap();
        assert_eq!(template.render(|| context! { name => "{{ tag }}<b>" }).unwrap(), "{{ tag }}<b>");
    }

    #[test]
    fn bad_texts_say_what_is_wrong() {
        for (text, why) in [
            ("", "empty"),
            ("   ", "empty"),
            ("{{ name", "syntax error"),
            ("{{ name | nonsense }}", "filter"),
            ("{% include 'x' %}{{", "syntax error"),
            (&"x".repeat(1001), "1001 characters"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(Template::parse(&"ы".repeat(1000)).is_ok(), "characters are counted, not bytes");
    }

    #[test]
    fn work_and_output_are_bounded() {
        let long = Template::parse("{{ name }}").unwrap();
        assert!(long.render(|| context! { name => "x".repeat(2000) }).unwrap_err().contains("longer"));
        let loops =
            "{% for a in v %}{% for b in v %}{% for c in v %}{{ c }}{% endfor %}{% endfor %}{% endfor %}";
        let loops = Template::parse(loops).unwrap();
        assert!(loops.render(|| context! { v => vec![1; 100] }).unwrap_err().contains("too much work"));
    }
}
