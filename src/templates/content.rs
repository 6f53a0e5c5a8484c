//! What a message says: a text, on some channels with a subject, and HTML in an e-mail.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::language::Data;
use super::render::{Form, Template};
use crate::error::{Complaints, Result};
use crate::kinds::ChannelKind;

/// Where there is no HTML.
pub const NO_HTML: &str = "is a part of an e-mail; other channels show none";

/// Texts that were checked and are ready to be filled.
#[derive(Debug)]
pub struct Content {
    subject: Option<Template>,
    text: Template,
    html: Option<Template>,
}

/// Texts as somebody wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    /// What stands above the text.
    pub subject: Option<String>,
    /// The text.
    pub text: String,
    /// The text as HTML.
    pub html: Option<String>,
}

impl Texts {
    /// Reads them as what is said over this channel.
    ///
    /// # Errors
    /// As [`Content::parse`].
    pub fn parse(&self, channel: ChannelKind) -> Result<Content> {
        Content::parse(channel, self.subject.as_deref(), &self.text, self.html.as_deref())
    }
}

/// The same for one recipient.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filled {
    /// What stands above the text.
    pub subject: Option<String>,
    /// The text.
    pub text: String,
    /// The text as HTML.
    pub html: Option<String>,
}

impl Content {
    /// Reads what is said over this channel.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) that names each field that is wrong.
    pub fn parse(
        channel: ChannelKind,
        subject: Option<&str>,
        text: &str,
        html: Option<&str>,
    ) -> Result<Self> {
        let mut wrong = Complaints::default();
        match (channel, subject) {
            (ChannelKind::Email, None) => wrong.add("subject", "is required: an e-mail has one"),
            (ChannelKind::Sms, Some(_)) => {
                wrong.add("subject", "is for other channels: a text message has none")
            }
            _ => {}
        }
        if html.is_some() && !channel.shows_html() {
            wrong.add("html", NO_HTML);
        }
        let subject = subject.and_then(|text| wrong.check("subject", Template::parse(text, Form::LINE)));
        let text = wrong.check("text", Template::parse(text, Form::of(channel)));
        let html = html.and_then(|text| wrong.check("html", Template::parse(text, Form::HTML)));
        match (wrong.finish(), text) {
            (Ok(()), Some(text)) => Ok(Self { subject, text, html }),
            (Err(error), _) => Err(error),
            (Ok(()), None) => {
                Err(crate::error::Error::internal("a text was read without complaint and is not there"))
            }
        }
    }

    /// Each part with the field that it comes from.
    fn parts(&self) -> impl Iterator<Item = (&'static str, &Template)> {
        let (subject, html) = (self.subject.iter(), self.html.iter());
        let subject = subject.map(|template| ("subject", template));
        subject.chain([("text", &self.text)]).chain(html.map(|template| ("html", template)))
    }

    /// The names that must be filled, each with the field that names it first.
    pub fn placeholders(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let mut seen = BTreeSet::new();
        let all =
            self.parts().flat_map(|(field, part)| part.placeholders().iter().map(move |name| (field, name)));
        all.filter(move |(_, name)| seen.insert(*name))
    }

    /// What is filled in, each with what is asked of it: `order.id`.
    pub fn paths(&self) -> BTreeSet<&str> {
        self.parts().flat_map(|(_, part)| part.paths()).collect()
    }

    /// The placeholders that these values leave empty, those with a `default` among them.
    pub fn missing<'t>(&'t self, data: &'t dyn Data) -> BTreeSet<&'t str> {
        self.parts().flat_map(|(_, part)| part.missing(data)).collect()
    }

    /// Returns whether all texts go out as they are written.
    pub fn is_plain(&self) -> bool {
        self.parts().all(|(_, part)| part.is_plain())
    }

    /// Whether there is anything to fill.
    pub fn needs_values(&self) -> bool {
        self.parts().any(|(_, part)| !part.placeholders().is_empty())
    }

    /// Fills the texts for one recipient. Each takes at most 10 ms: many at once belong on a
    /// [`Pool`](super::pool::Pool).
    ///
    /// # Errors
    /// Why this recipient cannot have them, in words that name no value.
    pub fn fill(&self, data: &dyn Data) -> Result<Filled, String> {
        self.try_fill(data).map_err(|(_, why)| why)
    }

    /// As [`Content::fill`].
    ///
    /// # Errors
    /// The field that cannot be filled, and why.
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
