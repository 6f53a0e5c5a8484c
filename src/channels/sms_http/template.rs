//! Templates of a request's parts. What is filled in is data, and is encoded for the place where it stands.

use std::collections::BTreeMap;
use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::digest;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::channels::Delivery;
use crate::segments;
use crate::templates::Data;
use crate::templates::language::{Escape, Failure, Program, Value};

/// Bytes of a part of a request.
const LONGEST: usize = 1024 * 1024;

/// The names that a template may use.
const NAMES: &[&str] = &["id", "id_number", "phone", "phone_e164", "text", "subject", "unicode"];

/// Under which `${NAME}` is looked up; no name that a user writes is this one.
const VARIABLES: &str = "__variables";

/// A variable of the environment, if it is set.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it stands: the whole is encoded later.
    Plain,
    /// For a part of a URL.
    Percent,
    /// As JSON, a text with its quotes.
    Json,
}

/// What one message fills in.
#[derive(Clone)]
pub(super) struct Names {
    id: Uuid,
    phone: String,
    text: String,
    subject: String,
}

impl Names {
    /// # Errors
    /// When the recipient is no phone number.
    pub(super) fn of(delivery: Delivery) -> Result<Self, String> {
        let phone = delivery.recipient.strip_prefix('+').unwrap_or(&delivery.recipient);
        if phone.is_empty() || !phone.bytes().all(|b| b.is_ascii_digit()) {
            return Err("the recipient is no phone number".into());
        }
        let subject = delivery.subject.unwrap_or_default();
        Ok(Self { id: delivery.id.0, phone: phone.to_owned(), text: delivery.text, subject })
    }

    /// With everything in it that a careless template breaks on.
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

/// A message's id for providers that want a number: the first eight bytes of the SHA-256 of the UUID's sixteen, as a
/// big-endian number without its highest bit, and 1 instead of 0. The same at each attempt; of a hundred million messages
/// two have the same number with a probability of 1 in 1800.
pub(super) fn id_number(id: Uuid) -> u64 {
    let digest = digest::digest(&digest::SHA256, id.as_bytes());
    let first = digest.as_ref().iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    (first & (u64::MAX >> 1)).max(1)
}

/// The data of a rendering.
struct MessageData<'f> {
    names: &'f Names,
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

/// A template that was checked and is ready to be filled.
pub(super) struct Template {
    program: Program,
    escape: Escape,
    variables: Map<String, Json>,
    /// What it always comes to, when it names nothing of the message.
    constant: Option<String>,
    /// The names of [`NAMES`] that it uses.
    used: Vec<&'static str>,
}

impl Template {
    /// Reads a template whose values are written in this `encoding`.
    ///
    /// # Errors
    /// What is wrong with it, in words, without any variable's value.
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
                None => return Err(format!("`{name}` is unknown; there are {}", NAMES.join(", "))),
            }
        }
        let escape = match encoding {
            Encoding::Plain => Escape::None,
            Encoding::Percent => Escape::Percent,
            Encoding::Json => Escape::Json,
        };
        let variables = variables.into_iter().map(|(name, value)| (name, Json::from(value))).collect();
        let mut new = Self { program, escape, variables, constant: None, used };
        for sample in Names::samples() {
            let rendered = new.render(&sample)?;
            if new.used.is_empty() {
                new.constant = Some(rendered);
            }
        }
        Ok(new)
    }

    /// What it always comes to, when it names nothing of the message.
    pub(super) fn constant(&self) -> Option<&str> {
        self.constant.as_deref()
    }

    /// The names that it uses.
    pub(super) fn used(&self) -> &[&'static str] {
        &self.used
    }

    /// Fills it.
    ///
    /// # Errors
    /// Why it cannot be, in words that name no value.
    pub(super) fn render(&self, names: &Names) -> Result<String, String> {
        if let Some(constant) = &self.constant {
            return Ok(constant.clone());
        }
        let data = MessageData { names, variables: &self.variables };
        self.program.render(&data, self.escape, LONGEST).map_err(|failure| match failure {
            Failure::NoValue { placeholder, .. } => format!("there is no value for {placeholder}"),
            Failure::Wrong(why) => why,
            Failure::TooLong => format!("it becomes longer than {LONGEST} bytes"),
            Failure::TooMuchWork { .. } => "the template takes too much work".into(),
        })
    }
}

/// All but the unreserved characters (RFC 3986, 2.3).
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Right in a path, in a query and in a form.
pub(super) fn percent(text: &str) -> String {
    utf8_percent_encode(text, NOT_UNRESERVED).to_string()
}

/// The text with what `put` writes for the name and the value of each `${NAME}` in it.
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

/// The name that `${` begins, and what is behind its brace.
fn variable_name(after: &str) -> Result<(&str, &str), String> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    after
        .split_once('}')
        .filter(|(name, _)| is_name(name))
        .ok_or_else(|| "`${` must begin the name of a variable of the environment, as in ${SMS_TOKEN}".into())
}

fn value_of(name: &str, variable: Variable<'_>) -> Result<String, String> {
    variable(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("the variable {name} of the environment is not set"))
}

/// A text with each `${NAME}` in it replaced.
///
/// # Errors
/// Which variable is not set.
pub(super) fn resolved(text: &SecretString, variable: Variable<'_>) -> Result<SecretString, String> {
    let whole = replaced(text.expose_secret(), variable, |whole, _, value| whole.push_str(&value));
    whole.map(Into::into)
}
