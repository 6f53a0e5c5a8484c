//! How a provider's API is described: section `sms.http` of the configuration.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;

/// What a request to the provider looks like, and how its answer is read.
///
/// A *template* may name `id`, `id_number`, `phone`, `phone_e164`, `text`, `subject` and `unicode`, as `{{ name }}`, and
/// variables of the environment, as `${NAME}`. Whatever is filled in is encoded for the place where it stands.
/// Templates are kept as secrets, since a password may be written into any of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// `POST` unless told otherwise.
    #[serde(default)]
    pub method: Method,
    /// `http[s]://HOST[:PORT]`, in which only `${NAME}` may stand, then a template of the path; its values are
    /// percent-encoded.
    pub url: SecretString,
    /// What is appended to the URL after a question mark: a name and a template each.
    #[serde(default)]
    pub query: BTreeMap<String, SecretString>,
    /// A name and a template each; a value with a line break in it is refused.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretString>,
    /// The body as `application/x-www-form-urlencoded`: a name and a template each.
    pub form: Option<BTreeMap<String, SecretString>>,
    /// The body as JSON: a template in which each value becomes JSON, a text with its quotes. This or the form.
    pub json: Option<SecretString>,
    /// Credentials for basic authentication.
    pub basic: Option<Basic>,
    /// A bearer token. This or basic authentication.
    pub bearer: Option<SecretString>,
    /// Where in a JSON answer the provider's code stands, as a JSON pointer (RFC 6901).
    pub code: Option<String>,
    /// Where the provider's id of the message stands, as a JSON pointer.
    pub id: Option<String>,
    /// What means that it took the message. Without statuses every 2xx does; with codes the answer must bear one of them.
    #[serde(default)]
    pub success: Rule,
    /// What means that it may take the message later, besides 408, 425, 429 and 5xx.
    #[serde(default)]
    pub transient: Rule,
    /// What means that it takes nothing for now, for as long as `Retry-After` says, or a second.
    #[serde(default)]
    pub throttled: Rule,
    /// What means that it will never take the message; the same as what is in no rule.
    #[serde(default)]
    pub permanent: Rule,
    /// What means that nothing will be delivered to this phone number any more.
    #[serde(default)]
    pub gone: Rule,
}

/// The methods that providers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// With a body, as most.
    #[default]
    Post,
    /// Without a body.
    Get,
    /// With a body.
    Put,
}

/// Credentials for basic authentication (RFC 7617). Both may name variables of the environment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user, without a colon.
    pub user: SecretString,
    /// The password.
    pub password: SecretString,
}

/// Answers that mean one thing. A code is looked at before the status: it says more.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// HTTP statuses.
    #[serde(default)]
    pub statuses: Vec<u16>,
    /// The provider's codes.
    #[serde(default)]
    pub codes: Vec<Code>,
}

/// A provider's code: `21211` and `"21211"` are the same.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Code {
    /// Written as a number.
    Number(i64),
    /// Written as a text.
    Text(String),
    /// Written as `true` or `false`.
    Bool(bool),
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Bool(yes) => yes.fmt(f),
        }
    }
}
