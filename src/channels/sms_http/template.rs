//! Templates of a request's parts. Values are data, and are encoded for their position.

use std::collections::BTreeMap;
use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::digest;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::channels::delivery::Delivery;
use crate::segments;
use crate::templates::Data;
use crate::templates::language::{Escape, Program, RenderFailure, Value};

/// The most bytes of a rendered part of a request.
const LONGEST: usize = 1024 * 1024;

/// The names that a template may use.
const NAMES: &[&str] = &["id", "id_number", "phone", "phone_e164", "text", "subject", "unicode"];

/// The key of the `${NAME}` variables; it differs from every name that users may write.
const VARIABLES: &str = "__variables";

/// Looks up an environment variable; `None` if it is not set.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The encoding of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// None: the rendered whole is encoded later.
    Plain,
    /// Percent-encoding, for a part of a URL.
    Percent,
    /// JSON, a text with its quotes.
    Json,
}

/// The values of one message.
#[derive(Clone)]
pub(super) struct MessageValues {
    id: Uuid,
    phone: String,
    text: String,
    subject: String,
}

impl MessageValues {
    /// # Errors
    /// If the recipient is not a phone number.
    pub(super) fn of(delivery: Delivery) -> Result<Self, String> {
        let phone = delivery.recipient.strip_prefix('+').unwrap_or(&delivery.recipient);
        if phone.is_empty() || !phone.bytes().all(|b| b.is_ascii_digit()) {
            return Err("the recipient is not a phone number".into());
        }
        let subject = delivery.subject.unwrap_or_default();
        Ok(Self { id: delivery.id.0, phone: phone.to_owned(), text: delivery.text, subject })
    }

    /// Samples with all characters that break a careless template.
    pub(super) fn samples() -> [Self; 2] {
        let nasty = "\"quotes\" \\ 'and'\r\n{{ braces }} & = + % # / ы 😀";
        let sample = |text: &str, subject: &str| Self {
            id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
            phone: "15005550006".into(),
            text: text.into(),
            subject: subject.into(),
        };
        [sample(nasty, nasty), sample("plain", "")]
    }

    fn get(&self, name: &str) -> Value<'_> {
        match name {
            "id" => Value::Text(self.id.to_string().into()),
            "id_number" => Value::Text(id_number(self.id).to_string().into()),
            "phone" => Value::text(&self.phone),
            "phone_e164" => Value::Text(format!("+{}", self.phone).into()),
            "text" => Value::text(&self.text),
            "subject" => Value::text(&self.subject),
            "unicode" => Value::Bool(!segments::fits_gsm7(&self.text)),
            _ => Value::Missing,
        }
    }
}

/// Returns a message's id for providers that require a number: the first eight bytes of the SHA-256 of the UUID's
/// sixteen bytes, as a big-endian number without its highest bit; 1 instead of 0. It is the same at each attempt. Among
/// a hundred million messages, the probability that two have the same number is 1 in 1800.
pub(super) fn id_number(id: Uuid) -> u64 {
    let digest = digest::digest(&digest::SHA256, id.as_bytes());
    let first = digest.as_ref().iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    (first & (u64::MAX >> 1)).max(1)
}

/// The data of a rendering.
struct MessageData<'f> {
    names: &'f MessageValues,
    variables: &'f Map<String, Json>,
}

impl Data for MessageData<'_> {
    fn get(&self, name: &str) -> Value<'_> {
        match name {
            VARIABLES => Value::Map(self.variables),
            name => self.names.get(name),
        }
    }
}

/// A validated template, ready to render.
pub(super) struct RequestTemplate {
    program: Program,
    escape: Escape,
    variables: Map<String, Json>,
    /// The rendered text, if the template uses no value of the message.
    constant: Option<String>,
    /// The entries of [`NAMES`] that it uses.
    used: Vec<&'static str>,
}

impl RequestTemplate {
    /// Parses a template whose values are written in this `encoding`.
    ///
    /// # Errors
    /// The mistake in the template, without any variable's value.
    pub(super) fn new(
        text: &SecretString,
        encoding: Encoding,
        variable: Variable<'_>,
    ) -> Result<Self, String> {
        let mut variables = BTreeMap::new();
        let text = with_variables(text.expose_secret(), variable, &mut variables)?;
        let program = Program::parse(&text)?;
        let mut used = Vec::new();
        for name in program.names() {
            match NAMES.iter().find(|known| *known == name) {
                Some(known) => used.push(*known),
                None if name.as_str() == VARIABLES => {}
                None => return Err(format!("`{name}` is unknown; known names: {}", NAMES.join(", "))),
            }
        }
        let escape = match encoding {
            Encoding::Plain => Escape::None,
            Encoding::Percent => Escape::Percent,
            Encoding::Json => Escape::Json,
        };
        let variables = variables.into_iter().map(|(name, value)| (name, Json::from(value))).collect();
        let mut new = Self { program, escape, variables, constant: None, used };
        for sample in MessageValues::samples() {
            let rendered = new.render(&sample)?;
            if new.used.is_empty() {
                new.constant = Some(rendered);
            }
        }
        Ok(new)
    }

    /// The rendered text, if the template uses no value of the message.
    pub(super) fn constant(&self) -> Option<&str> {
        self.constant.as_deref()
    }

    /// The names that the template uses.
    pub(super) fn used(&self) -> &[&'static str] {
        &self.used
    }

    /// Renders the template.
    ///
    /// # Errors
    /// The reason why it cannot be rendered, without any value.
    pub(super) fn render(&self, names: &MessageValues) -> Result<String, String> {
        if let Some(constant) = &self.constant {
            return Ok(constant.clone());
        }
        let data = MessageData { names, variables: &self.variables };
        self.program.render(&data, self.escape, LONGEST).map_err(|failure| match failure {
            RenderFailure::NoValue { placeholder, .. } => format!("no value for {placeholder}"),
            RenderFailure::Wrong(why) => why,
            RenderFailure::TooLong => format!("it renders to more than {LONGEST} bytes"),
            RenderFailure::TooMuchWork { .. } => "the template takes too much work".into(),
        })
    }
}

/// All characters but the unreserved ones (RFC 3986, 2.3).
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes for a path, a query or a form.
pub(super) fn percent(text: &str) -> String {
    utf8_percent_encode(text, NOT_UNRESERVED).to_string()
}

/// Replaces each `${NAME}` by the text that `put` writes for its name and value.
fn replaced(
    text: &str,
    variable: Variable<'_>,
    mut put: impl FnMut(&mut String, &str, String),
) -> Result<String, String> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = variable_name(after)?;
        whole.push_str(before);
        put(&mut whole, name, value_of(name, variable)?);
        rest = behind;
    }
    whole.push_str(rest);
    Ok(whole)
}

/// Turns each `${NAME}` into a placeholder, whose value is then encoded like any other.
fn with_variables(
    text: &str,
    variable: Variable<'_>,
    found: &mut BTreeMap<String, String>,
) -> Result<String, String> {
    replaced(text, variable, |turned, name, value| {
        // the names are letters, digits and underscores
        let _ = write!(turned, "{{{{ {VARIABLES}.{name} }}}}");
        found.insert(name.to_owned(), value);
    })
}

/// Splits the text after `${` into the variable's name and the text after its brace.
fn variable_name(after: &str) -> Result<(&str, &str), String> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    after
        .split_once('}')
        .filter(|(name, _)| is_name(name))
        .ok_or_else(|| "`${` must begin the name of an environment variable, as in ${SMS_TOKEN}".into())
}

fn value_of(name: &str, variable: Variable<'_>) -> Result<String, String> {
    variable(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("the environment variable {name} is not set"))
}

/// Replaces each `${NAME}` by its value.
///
/// # Errors
/// The variable that is not set.
pub(super) fn resolved(text: &SecretString, variable: Variable<'_>) -> Result<SecretString, String> {
    let whole = replaced(text.expose_secret(), variable, |whole, _, value| whole.push_str(&value));
    whole.map(Into::into)
}
