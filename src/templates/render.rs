//! Renders message texts with placeholders: `Dear {{ name }}`. A name without a value is an error. The work, the memory
//! and the output are bounded ([`super::language`]). Values are never parsed as templates, and are escaped in HTML.

use std::collections::BTreeSet;

use super::language::{Data, Escape, Program, RenderFailure};
use super::unsubscribe::UNSUBSCRIBE_URL;
use crate::kinds::{ChannelKind, TextLimits};

/// The form of a text and its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    kind: Kind,
    /// The most characters of the template.
    pub longest: usize,
    /// The most characters of the rendered text.
    pub longest_filled: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Line,
    Html,
}

impl Form {
    /// A subject.
    pub const LINE: Self = Self { kind: Kind::Line, longest: 500, longest_filled: 998 };
    /// The HTML of an e-mail.
    pub const HTML: Self = Self { kind: Kind::Html, longest: 200_000, longest_filled: 400_000 };
    /// The longest text of any channel.
    pub const LONGEST_TEXT: Self = Self::of(ChannelKind::Email);

    /// Returns the form of the text on a channel.
    pub const fn of(channel: ChannelKind) -> Self {
        let TextLimits { template, filled, .. } = channel.spec().text;
        Self { kind: Kind::Text, longest: template, longest_filled: filled }
    }
}

/// A parsed text, ready to be rendered.
#[derive(Debug)]
pub struct Template {
    program: Program,
    form: Form,
    /// The text itself if it has no placeholders: most mailings need no rendering.
    plain: Option<String>,
}

impl Template {
    /// Parses a text of this form.
    ///
    /// # Errors
    /// The reason why it is not valid.
    pub fn parse(text: &str, form: Form) -> Result<Self, String> {
        let length = text.chars().count();
        if text.trim().is_empty() {
            return Err("must not be empty".into());
        }
        if length > form.longest {
            return Err(format!("has {length} characters; at most {} are allowed", form.longest));
        }
        if text.contains('\0') {
            return Err("must not contain NUL".into());
        }
        if form.kind == Kind::Line && text.chars().any(char::is_control) {
            return Err("must be one line without control characters".into());
        }
        let program = Program::parse(text)?;
        let plain = (!text.contains('{')).then(|| text.to_owned());
        Ok(Self { program, form, plain })
    }

    /// Returns the placeholders without a value in `data`, including those with a `default`.
    pub fn missing<'t>(&'t self, data: &'t dyn Data) -> impl Iterator<Item = &'t str> {
        self.program.paths().keys().filter(|path| is_missing(path, data)).map(String::as_str)
    }

    /// Returns the placeholders as paths such as `order.id`.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.program.paths().keys().map(String::as_str)
    }

    /// Returns the names that need a value.
    pub fn placeholders(&self) -> &BTreeSet<String> {
        self.program.names()
    }

    /// Returns true if the text is sent unchanged.
    pub fn is_plain(&self) -> bool {
        self.plain.is_some()
    }

    /// Renders the text for one recipient.
    ///
    /// # Errors
    /// The reason why the text cannot be rendered, without any value.
    pub fn render(&self, data: &dyn Data) -> Result<String, String> {
        if let Some(text) = &self.plain {
            return Ok(text.clone());
        }
        let escape = if self.form.kind == Kind::Html { Escape::Html } else { Escape::None };
        let most = self.form.longest_filled;
        // a character has at most four bytes
        let rendered = self.program.render(data, escape, most * 4);
        let text = rendered.map_err(|failure| self.explain(failure, data))?;
        if text.trim().is_empty() {
            return Err("the text is empty for this recipient".into());
        }
        if text.chars().nth(most).is_some() {
            return Err(self.explain(RenderFailure::TooLong, data));
        }
        match self.form.kind {
            // a value of several lines must not add lines to a header
            Kind::Line => Ok(text.replace(char::is_control, " ")),
            Kind::Text | Kind::Html => Ok(text),
        }
    }

    fn explain(&self, failure: RenderFailure, data: &dyn Data) -> String {
        match failure {
            RenderFailure::NoValue { placeholder, line } => {
                // all placeholders without a value, so that they can be added at once
                let required = self.program.paths().iter().filter(|(_, is_required)| **is_required);
                let missing = required.filter(|(path, _)| is_missing(path, data));
                let names: Vec<String> = missing.map(|(path, _)| format!("`{path}`")).collect();
                if names.is_empty() {
                    // a part of a loop's element, or of an element of a list
                    return format!("no value for the placeholder {placeholder} in line {line}");
                }
                let hint = if names.iter().any(|name| name.trim_matches('`') == UNSUBSCRIBE_URL) {
                    "; unsubscribe links require PUBLIC_URL"
                } else {
                    ""
                };
                format!("no value for the placeholder {}{hint}", names.join(", "))
            }
            RenderFailure::Wrong(why) => why,
            RenderFailure::TooLong => {
                format!("the text is longer than {} characters for this recipient", self.form.longest_filled)
            }
            RenderFailure::TooMuchWork { line } => format!("the template takes too much work in line {line}"),
        }
    }
}

fn is_missing(path: &str, data: &dyn Data) -> bool {
    let mut fields = path.split('.');
    let first = fields.next().map_or(super::language::Value::Missing, |name| data.get(name));
    fields.fold(first, |value, field| value.field(field)).is_missing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    fn data(json: Value) -> Map<String, Value> {
        json.as_object().unwrap().clone()
    }

    fn sms(text: &str) -> Result<Template, String> {
        Template::parse(text, Form::of(ChannelKind::Sms))
    }

    #[test]
    fn placeholders_are_filled_and_listed() {
        let template = sms("Dear {{ name }}, {{ city | upper }}!").unwrap();
        assert_eq!(template.placeholders().iter().map(String::as_str).collect::<Vec<_>>(), ["city", "name"]);
        let ann = data(json!({"name": "Ann", "city": "Omsk"}));
        assert_eq!(template.render(&ann).unwrap(), "Dear Ann, OMSK!");
    }

    #[test]
    fn a_placeholder_without_a_value_is_an_error_unless_it_has_a_default() {
        let strict = sms("Dear {{ name }}").unwrap();
        assert!(strict.render(&()).unwrap_err().contains("`name`"));
        let lenient = sms("Dear {{ name | default('friend') }}").unwrap();
        assert_eq!(lenient.render(&()).unwrap(), "Dear friend");
    }

    #[test]
    fn a_value_is_data_and_never_a_template() {
        let template = sms("{{ name }}").unwrap();
        assert_eq!(template.render(&data(json!({"name": "{{ tag }}<b>"}))).unwrap(), "{{ tag }}<b>");
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
        let error = long.render(&data(json!({"name": "x".repeat(2000)}))).unwrap_err();
        assert!(error.contains("longer than 1530 characters"), "{error}");
        let loops = |body: &str| {
            format!(
                "{{% for a in v %}}{{% for b in v %}}{{% for c in v %}}{body}{{% endfor %}}{{% endfor %}}{{% endfor %}}"
            )
        };
        let silent = sms(&loops("{% if c == 2 %}x{% endif %}")).unwrap();
        let error = silent.render(&data(json!({"v": vec![1; 100]}))).unwrap_err();
        assert_eq!(error, "the template takes too much work in line 1");
        let html = Template::parse(&loops("{{ c }}"), Form::HTML).unwrap();
        let error = html.render(&data(json!({"v": vec!["x".repeat(1000); 60]}))).unwrap_err();
        assert!(error.contains("longer than 400000"), "it ends long before 216 million characters: {error}");
    }

    #[test]
    fn a_text_is_no_program() {
        for tag in ["{% set a = 1 %}x", "{%-set a = 1 -%}x", "{%+ set a %}x{% endset %}", "{% with a = 1 %}x"]
        {
            assert!(sms(tag).unwrap_err().contains("templates cannot assign or define"), "{tag}");
        }
        assert!(sms("{% if settings %}x{% endif %}y").is_ok());
    }

    #[test]
    fn values_are_escaped_in_html_alone() {
        let values = data(json!({"name": "<b>\"Ann\" & 'Bob'</b>"}));
        let html = Template::parse("<p title=\"{{ name }}\">{{ name }}</p>", Form::HTML).unwrap();
        let filled = html.render(&values).unwrap();
        assert!(!filled.contains("<b>") && !filled.contains("\"Ann"), "{filled}");
        assert!(filled.starts_with("<p title=\"&lt;b&gt;&quot;Ann&quot; &amp; "), "{filled}");
        for off in ["{{ name | safe }}", "{% autoescape false %}{{ name }}{% endautoescape %}"] {
            assert!(Template::parse(off, Form::HTML).is_err(), "escaping cannot be switched off: {off}");
        }
        assert_eq!(sms("{{ name }}").unwrap().render(&values).unwrap(), "<b>\"Ann\" & 'Bob'</b>");
    }

    #[test]
    fn values_are_found_by_dots_and_numbers_and_in_loops() {
        let values = data(json!({
            "name": "Ann", "gone": null,
            "order": {"items": [{"name": "tea", "price": 2.5}, {"name": "<jam>", "price": 3}], "paid": true, "note": null}
        }));
        let fill = |text: &str, form| Template::parse(text, form).unwrap().render(&values);
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
            ("a\n{% for item in order.items %}{{ item.weight }}{% endfor %}", "`item.weight` in line 2"),
            ("{{ gone }} {{ other.x | default(1) }}", "the placeholder `gone`"),
            ("{% for item in order.nothing %}x{% endfor %}", "`order.nothing`"),
        ] {
            assert!(fill(text, sms).unwrap_err().contains(what), "{text}: {:?}", fill(text, sms));
        }
    }

    #[test]
    fn a_subject_is_one_line_whatever_is_filled_in() {
        assert!(Template::parse("a\r\nBcc: b@c.d", Form::LINE).unwrap_err().contains("one line"));
        let subject = Template::parse("Dear {{ name }}", Form::LINE).unwrap();
        assert_eq!(subject.render(&data(json!({"name": "A\r\nBcc: x"}))).unwrap(), "Dear A  Bcc: x");
    }

    #[test]
    fn each_channel_has_its_own_longest_text() {
        for (channel, longest) in
            [(ChannelKind::Sms, 1000), (ChannelKind::Discord, 2000), (ChannelKind::Email, 100_000)]
        {
            assert!(Template::parse(&"x".repeat(longest), Form::of(channel)).is_ok());
            assert!(Template::parse(&"x".repeat(longest + 1), Form::of(channel)).is_err());
        }
        let longest = ChannelKind::ALL.iter().map(|channel| Form::of(*channel).longest).max();
        assert_eq!(longest, Some(Form::LONGEST_TEXT.longest));
    }
}
