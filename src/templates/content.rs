//! The content of a message: a text, with a subject on some channels, and with HTML in an e-mail.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::language::Data;
use super::render::{Form, Template};
use crate::error::{Complaints, Result};
use crate::kinds::{ChannelKind, SubjectRule};

/// The reason for refusing HTML on other channels.
pub const NO_HTML: &str = "is only for e-mail; other channels show no HTML";

/// Parsed texts, ready to be rendered.
#[derive(Debug)]
pub struct Content {
    subject: Option<Template>,
    text: Template,
    html: Option<Template>,
}

/// The source of texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    /// The subject.
    pub subject: Option<String>,
    /// The text.
    pub text: String,
    /// The text as HTML.
    pub html: Option<String>,
}

impl Texts {
    /// Parses the texts for a channel.
    ///
    /// # Errors
    /// As [`Content::parse`].
    pub fn parse(&self, channel: ChannelKind) -> Result<Content> {
        Content::parse(channel, self.subject.as_deref(), &self.text, self.html.as_deref())
    }
}

/// Texts that were rendered for one recipient.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The subject.
    pub subject: Option<String>,
    /// The text.
    pub text: String,
    /// The text as HTML.
    pub html: Option<String>,
}

impl Content {
    /// Parses the texts for a channel.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) with every invalid field.
    pub fn parse(
        channel: ChannelKind,
        subject: Option<&str>,
        text: &str,
        html: Option<&str>,
    ) -> Result<Self> {
        let mut wrong = Complaints::default();
        match (channel.spec().subject, subject) {
            (SubjectRule::Required, None) => wrong.add("subject", format!("is required for `{channel}`")),
            (SubjectRule::Forbidden, Some(_)) => {
                wrong.add("subject", format!("is not allowed on `{channel}`"));
            }
            _ => {}
        }
        if html.is_some() && !channel.spec().shows_html {
            wrong.add("html", NO_HTML);
        }
        let subject = subject.and_then(|text| wrong.check("subject", Template::parse(text, Form::LINE)));
        let text = wrong.check("text", Template::parse(text, Form::of(channel)));
        let html = html.and_then(|text| wrong.check("html", Template::parse(text, Form::HTML)));
        match (wrong.finish(), text) {
            (Ok(()), Some(text)) => Ok(Self { subject, text, html }),
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(crate::error::Error::internal("a validated text is missing")),
        }
    }

    /// Returns each part with its field.
    fn parts(&self) -> impl Iterator<Item = (&'static str, &Template)> {
        let (subject, html) = (self.subject.iter(), self.html.iter());
        let subject = subject.map(|template| ("subject", template));
        subject.chain([("text", &self.text)]).chain(html.map(|template| ("html", template)))
    }

    /// Returns the names that need a value, each with the first field that uses it.
    pub fn placeholders(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let mut seen = BTreeSet::new();
        let all =
            self.parts().flat_map(|(field, part)| part.placeholders().iter().map(move |name| (field, name)));
        all.filter(move |(_, name)| seen.insert(*name))
    }

    /// Returns the placeholders as paths such as `order.id`.
    pub fn paths(&self) -> BTreeSet<&str> {
        self.parts().flat_map(|(_, part)| part.paths()).collect()
    }

    /// Returns the placeholders without a value in `data`, including those with a `default`.
    pub fn missing<'t>(&'t self, data: &'t dyn Data) -> BTreeSet<&'t str> {
        self.parts().flat_map(|(_, part)| part.missing(data)).collect()
    }

    /// Returns true if all texts are sent unchanged.
    pub fn is_plain(&self) -> bool {
        self.parts().all(|(_, part)| part.is_plain())
    }

    /// Returns true if any text has placeholders.
    pub fn needs_values(&self) -> bool {
        self.parts().any(|(_, part)| !part.placeholders().is_empty())
    }

    /// Renders the texts for one recipient. Each takes at most 10 ms, so render many of them on a
    /// [`Pool`](super::pool::Pool).
    ///
    /// # Errors
    /// The reason why the texts cannot be rendered, without any value.
    pub fn fill(&self, data: &dyn Data) -> Result<Filled, String> {
        self.try_fill(data).map_err(|(_, why)| why)
    }

    /// Does the same as [`Content::fill`].
    ///
    /// # Errors
    /// The field that cannot be rendered, and the reason.
    pub fn try_fill(&self, data: &dyn Data) -> Result<Filled, (&'static str, String)> {
        let fill =
            |field: &'static str, template: &Template| template.render(data).map_err(|why| (field, why));
        let optional = |field, template: &Option<Template>| {
            template.as_ref().map(|template| fill(field, template)).transpose()
        };
        Ok(Filled {
            subject: optional("subject", &self.subject)?,
            text: fill("text", &self.text)?,
            html: optional("html", &self.html)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use serde_json::json;

    fn fields(parsed: Result<Content>) -> Vec<String> {
        match parsed {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(fields)) => fields.into_iter().map(|field| field.field).collect(),
            Err(other) => unreachable!("{other}"),
        }
    }

    #[test]
    fn each_channel_says_what_it_needs() {
        use ChannelKind::{Email, InApp, Push, Sms};
        let long = "x".repeat(5000);
        for (channel, subject, text, html, wrong) in [
            (Sms, None, "a", None, vec![]),
            (Sms, Some("s"), "a", Some("<p>"), vec!["subject", "html"]),
            (Sms, None, long.as_str(), None, vec!["text"]),
            (Email, None, "a", None, vec!["subject"]),
            (Email, Some("s"), long.as_str(), Some("<p>{{ x"), vec!["html"]),
            (Email, Some(""), "", Some(""), vec!["subject", "text", "html"]),
            (Push, Some("s"), "a", None, vec![]),
            (InApp, None, long.as_str(), None, vec![]),
        ] {
            assert_eq!(fields(Content::parse(channel, subject, text, html)), wrong, "{channel}");
        }
    }

    #[test]
    fn all_parts_are_filled_and_only_html_is_escaped() {
        let content = Content::parse(ChannelKind::Email, Some("{{ a }}"), "{{ b }}", Some("{{ a }} {{ c }}"));
        let content = content.unwrap();
        let names: Vec<(&str, &str)> =
            content.placeholders().map(|(field, name)| (field, name.as_str())).collect();
        assert_eq!(names, [("subject", "a"), ("text", "b"), ("html", "c")]);
        let data = |json: serde_json::Value| json.as_object().unwrap().clone();
        let filled = content.fill(&data(json!({"a": "<1>", "b": "<2>", "c": "3"}))).unwrap();
        let expected =
            Filled { subject: Some("<1>".into()), text: "<2>".into(), html: Some("&lt;1&gt; 3".into()) };
        assert_eq!(filled, expected);
        assert!(content.fill(&data(json!({"a": "1", "b": "2"}))).unwrap_err().contains("`c`"));
    }
}
