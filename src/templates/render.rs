//! Message texts with placeholders: `Dear {{ name }}`. Strict about unknown names, bounded in work and in output; what
//! is filled in is data and never read as a template, and in HTML it is escaped.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use super::scan;
use crate::kinds::ChannelKind;

/// Texts up to so many characters grow by little unless they have a loop.
const SHORT: usize = 2000;
/// Bytes that the filter `replace` makes of one value at most; an attribute has up to 1000 characters.
const LONGEST_VALUE: usize = 64 * 1024;

/// The filters of texts.
const FILTERS: &[&str] =
    &["default", "upper", "lower", "trim", "replace", "int", "title", "capitalize", "round"];

/// What a template becomes, and how much of it there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    kind: Kind,
    /// Characters that it may have.
    pub longest: usize,
    /// Characters that it may grow to.
    pub longest_filled: usize,
    /// Instructions that one rendering may take; a text of that length needs far fewer.
    fuel: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Line,
    Html,
}

impl Form {
    /// A subject.
    pub const LINE: Self = Self { kind: Kind::Line, longest: 500, longest_filled: 998, fuel: 20_000 };
    /// The HTML of an e-mail.
    pub const HTML: Self =
        Self { kind: Kind::Html, longest: 200_000, longest_filled: 400_000, fuel: 500_000 };
    /// The longest text of all channels'.
    pub const LONGEST_TEXT: Self = Self::text(100_000, 200_000, 500_000);

    const fn text(longest: usize, longest_filled: usize, fuel: u64) -> Self {
        Self { kind: Kind::Text, longest, longest_filled, fuel }
    }

    /// The text of a channel's messages.
    pub const fn of(channel: ChannelKind) -> Self {
        match channel {
            // ten segments
            ChannelKind::Sms => Self::text(1000, 1530, 20_000),
            // a notification on a device is 4096 bytes in all
            ChannelKind::Push => Self::text(1000, 1500, 20_000),
            // what Discord takes
            ChannelKind::Discord => Self::text(2000, 2000, 50_000),
            ChannelKind::Webhook | ChannelKind::InApp | ChannelKind::Request => {
                Self::text(20_000, 20_000, 100_000)
            }
            ChannelKind::Email => Self::LONGEST_TEXT,
        }
    }
}

/// A text that was checked and is ready to be filled.
pub struct Template {
    environment: Environment<'static>,
    form: Form,
    /// Whether what it grows to has to be bounded while it grows.
    may_explode: bool,
    placeholders: BTreeSet<String>,
    /// The same with what is asked of them: `order.id`.
    paths: BTreeSet<String>,
    /// The text itself when it has nothing to fill: most mailings need no rendering.
    plain: Option<String>,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("placeholders", &self.placeholders).finish_non_exhaustive()
    }
}

impl Template {
    /// Reads a text of this form.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str, form: Form) -> Result<Self, String> {
        let length = text.chars().count();
        if text.trim().is_empty() {
            return Err("must not be empty".into());
        }
        if length > form.longest {
            return Err(format!("has {length} characters; at most {} are allowed", form.longest));
        }
        if text.contains('\0') {
            return Err("must not hold the character NUL".into());
        }
        if form.kind == Kind::Line && text.chars().any(char::is_control) {
            return Err("must be one line without control characters".into());
        }
        if has_set(text) {
            return Err("must not use `set`: a text is no program".into());
        }
        let mut environment = filters(form);
        environment.add_template_owned("text", text.to_owned()).map_err(|e| describe(&e))?;
        let template = environment.get_template("text").map_err(|e| describe(&e))?;
        let placeholders: BTreeSet<String> = template.undeclared_variables(false).into_iter().collect();
        let paths = template.undeclared_variables(true).into_iter().collect();
        // minijinja looks filters up when it renders, and only those that it comes to
        scan::check(text, |filter| FILTERS.contains(&filter))?;
        // try once, and mind only what no recipient could mend
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
        // without a loop a short text grows by no more than its placeholders' values
        let may_explode = text.contains("{%") || form.longest > SHORT;
        Ok(Self { environment, form, may_explode, placeholders, paths, plain })
    }

    /// Says which placeholders these values leave empty.
    fn why_undefined(&self, values: &Value, error: &minijinja::Error) -> String {
        let names: Vec<String> = self.missing(values).map(|name| format!("`{name}`")).collect();
        if names.is_empty() {
            // a part of what a loop goes through, or of a value that has no parts
            let place = error.line().map_or(String::new(), |line| format!(" in line {line}"));
            return format!("a placeholder{place} asks for a part of a value that the value does not have");
        }
        format!("there is no value for the placeholder {}", names.join(", "))
    }

    /// The placeholders that these values leave empty, those with a `default` among them.
    pub fn missing<'t>(&'t self, values: &'t Value) -> impl Iterator<Item = &'t str> {
        let is_missing = |path: &&String| {
            let parts = path.split('.').try_fold(values.clone(), |value, part| value.get_attr(part));
            parts.map_or(true, |value| value.is_undefined())
        };
        self.paths.iter().filter(is_missing).map(String::as_str)
    }

    /// What is filled in, each with what is asked of it: `order.id`.
    pub fn paths(&self) -> &BTreeSet<String> {
        &self.paths
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
        let most = self.form.longest_filled;
        let too_long = || format!("the text is longer than {most} characters for this recipient");
        let rendered = if self.may_explode {
            // no character has more than four bytes
            let mut text = Bounded { bytes: Vec::new(), most: most * 4 };
            template.render_captured_to(&values, &mut text).map(drop).and_then(|()| text.into_text())
        } else {
            template.render(&values)
        };
        let text = rendered.map_err(|e| match e.kind() {
            ErrorKind::UndefinedError => self.why_undefined(&values, &e),
            ErrorKind::WriteFailure => too_long(),
            _ => describe(&e),
        })?;
        if text.trim().is_empty() {
            return Err("the text is empty for this recipient".into());
        }
        if text.chars().nth(most).is_some() {
            return Err(too_long());
        }
        match self.form.kind {
            // a value of several lines must not make more of a header than one
            Kind::Line => Ok(text.replace(char::is_control, " ")),
            Kind::Text | Kind::Html => Ok(text),
        }
    }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Bounded {
    fn into_text(self) -> Result<String, minijinja::Error> {
        String::from_utf8(self.bytes)
            .map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, "no text").with_source(e))
    }
}

impl std::io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + more.len() > self.most {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether a variable is set: in a loop it could double each time, which costs no work and all memory.
fn has_set(text: &str) -> bool {
    text.split("{%").skip(1).any(|tag| {
        let word = tag.trim_start_matches(['-', '+']).trim_start();
        word.strip_prefix("set")
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

/// minijinja's, for a value that stays within bounds: filters can be chained, and each may make ten times as much.
fn replace(value: Cow<'_, str>, from: Cow<'_, str>, to: Cow<'_, str>) -> Result<String, minijinja::Error> {
    let grows_by = to.len().saturating_sub(from.len()).saturating_mul(value.matches(&*from).count());
    if value.len().saturating_add(grows_by) > LONGEST_VALUE {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "too long"));
    }
    Ok(value.replace(&*from, &to))
}

/// Where a template is no program: a few filters, no functions and no includes, strict about unknown names, and no more
/// than `fuel` instructions for one rendering.
pub fn environment(fuel: u64) -> Environment<'static> {
    use minijinja::filters;
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(fuel));
    environment.set_recursion_limit(50);
    environment.add_filter("default", filters::default);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("replace", replace);
    environment.add_filter("int", filters::int);
    environment
}

fn filters(form: Form) -> Environment<'static> {
    use minijinja::filters;
    let mut environment = environment(form.fuel);
    environment.set_auto_escape_callback(move |_| match form.kind {
        Kind::Html => AutoEscape::Html,
        Kind::Text | Kind::Line => AutoEscape::None,
    });
    environment.add_filter("title", filters::title);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("round", filters::round);
    environment
}

/// JSON as what placeholders are filled from: an object's names, and what is in it by dots and numbers. Null is no value,
/// as if the name were not there: nobody wants to read `none`.
pub fn values(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::UNDEFINED,
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(values).collect::<Vec<_>>()),
        Json::Object(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), values(value)));
            Value::from(pairs.collect::<BTreeMap<String, Value>>())
        }
    }
}

/// minijinja's message without the template's text around it; a value of the recipient's is not repeated.
pub fn describe(error: &minijinja::Error) -> String {
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

    fn sms(text: &str) -> Result<Template, String> {
        Template::parse(text, Form::of(ChannelKind::Sms))
    }

    #[test]
    fn placeholders_are_filled_and_listed() {
        let template = sms("Dear {{ name }}, {{ city | upper }}!").unwrap();
        assert_eq!(template.placeholders().iter().map(String::as_str).collect::<Vec<_>>(), ["city", "name"]);
        assert_eq!(
            template.render(|| context! { name => "Ann", city => "Omsk" }).unwrap(),
            "Dear Ann, OMSK!"
        );
    }

    #[test]
    fn a_placeholder_without_a_value_is_an_error_unless_it_has_a_default() {
        let strict = sms("Dear {{ name }}").unwrap();
        assert!(strict.render(|| context! {}).unwrap_err().contains("`name`"));
        let lenient = sms("Dear {{ name | default('friend') }}").unwrap();
        assert_eq!(lenient.render(|| context! {}).unwrap(), "Dear friend");
    }

    #[test]
    fn a_value_is_data_and_never_a_template() {
        let template = sms("{{ name }}").unwrap();
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
            let error = sms(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(sms(&"ы".repeat(1000)).is_ok(), "characters are counted, not bytes");
    }

    #[test]
    fn work_and_output_are_bounded() {
        let long = sms("{{ name }}").unwrap();
        assert!(long.render(|| context! { name => "x".repeat(2000) }).unwrap_err().contains("longer"));
        let loops =
            "{% for a in v %}{% for b in v %}{% for c in v %}{{ c }}{% endfor %}{% endfor %}{% endfor %}";
        let loops = sms(loops).unwrap();
        assert!(loops.render(|| context! { v => vec![1; 100] }).unwrap_err().contains("too much work"));
    }

    #[test]
    fn no_template_takes_all_memory() {
        let long = "x".repeat(1000);
        let many = vec!["x".repeat(1000); 60];
        let loops =
            "{% for a in v %}{% for b in v %}{% for c in v %}{{ c }}{% endfor %}{% endfor %}{% endfor %}";
        let html = Template::parse(loops, Form::HTML).unwrap();
        let error = html.render(|| context! { v => many }).unwrap_err();
        assert!(error.contains("longer than 400000"), "it ends long before 216 million characters: {error}");
        let chain = format!("{{{{ x{} }}}}", " | replace('x', 'xx')".repeat(40));
        let chain = sms(&chain).unwrap();
        assert!(chain.render(|| context! { x => long }).is_err());
        assert_eq!(chain.render(|| context! { x => "y" }).unwrap(), "y");
        for set in ["{% set a = 1 %}x", "{%-set a = 1 -%}x", "{%+ set a %}x{% endset %}"] {
            assert!(sms(set).unwrap_err().contains("`set`"), "{set}");
        }
        assert!(sms("{% if settings %}x{% endif %}y").is_ok());
    }

    #[test]
    fn values_are_escaped_in_html_alone() {
        let values = || context! { name => "<b>\"Ann\" & 'Bob'</b>" };
        let html = Template::parse("<p title=\"{{ name }}\">{{ name }}</p>", Form::HTML).unwrap();
        let filled = html.render(values).unwrap();
        assert!(!filled.contains("<b>") && !filled.contains("\"Ann"), "{filled}");
        assert!(filled.starts_with("<p title=\"&lt;b&gt;&quot;Ann&quot; &amp; "), "{filled}");
        assert!(Template::parse("{{ name | safe }}", Form::HTML).is_err(), "nobody may switch it off");
        assert_eq!(sms("{{ name }}").unwrap().render(values).unwrap(), "<b>\"Ann\" & 'Bob'</b>");
    }

    #[test]
    fn values_are_found_by_dots_and_numbers_and_in_loops() {
        let data = serde_json::json!({
            "name": "Ann", "gone": null,
            "order": {"items": [{"name": "tea", "price": 2.5}, {"name": "<jam>", "price": 3}], "paid": true, "note": null}
        });
        let fill = |text: &str, form| Template::parse(text, form).unwrap().render(|| values(&data));
        let sms = Form::of(ChannelKind::Sms);
        for (text, filled) in [
            ("{{ order.items[1].name }}", "<jam>"),
            (
                "{% for item in order.items %}{{ item.name }} {{ item.price }};{% endfor %}",
                "tea 2.5;<jam> 3;",
            ),
            ("{% if order.paid %}paid{% endif %}", "paid"),
            ("{{ gone | default('-') }}{{ order.note | default('-') }}", "--"),
        ] {
            assert_eq!(fill(text, sms).unwrap(), filled);
        }
        assert_eq!(
            fill("{% for i in order.items %}{{ i.name }}{% endfor %}", Form::HTML).unwrap(),
            "tea&lt;jam&gt;"
        );
        for (text, what) in [
            ("{{ order.id }}", "`order.id`"),
            ("{{ gone }} {{ other.x }}", "`gone`, `other.x`"),
            ("{{ name.first }}", "`name.first`"),
            ("a\n{% for item in order.items %}{{ item.weight }}{% endfor %}", "in line 2"),
            ("{% for item in order.nothing %}x{% endfor %}", "`order.nothing`"),
        ] {
            assert!(fill(text, sms).unwrap_err().contains(what), "{text}: {:?}", fill(text, sms));
        }
    }

    #[test]
    fn a_subject_is_one_line_whatever_is_filled_in() {
        assert!(Template::parse("a\r\nBcc: b@c.d", Form::LINE).unwrap_err().contains("one line"));
        let subject = Template::parse("Dear {{ name }}", Form::LINE).unwrap();
        assert_eq!(subject.render(|| context! { name => "A\r\nBcc: x" }).unwrap(), "Dear A  Bcc: x");
    }

    #[test]
    fn each_channel_has_its_own_longest_text() {
        for (channel, longest) in
            [(ChannelKind::Sms, 1000), (ChannelKind::Discord, 2000), (ChannelKind::Email, 100_000)]
        {
            assert!(Template::parse(&"x".repeat(longest), Form::of(channel)).is_ok());
            assert!(Template::parse(&"x".repeat(longest + 1), Form::of(channel)).is_err());
        }
    }
}
