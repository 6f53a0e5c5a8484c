//! The description of a provider's API: section `sms.http` of the configuration.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;

/// The request to the provider, and the rules for its response.
///
/// A *template* may use `id`, `id_number`, `phone`, `phone_e164`, `text`, `subject` and `unicode` as `{{ name }}`, and
/// environment variables as `${NAME}`. Each value is encoded for its position. Templates are stored as secrets, since
/// any of them may contain a password.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// The method. The default is `POST`.
    #[serde(default)]
    pub method: Method,
    /// `http[s]://HOST[:PORT]`, which may contain `${NAME}` only, followed by a template of the path. Its values are
    /// percent-encoded.
    pub url: SecretString,
    /// The query parameters, by name; each value is a template.
    #[serde(default)]
    pub query: BTreeMap<String, SecretString>,
    /// The headers, by name; each value is a template. A rendered value with a line break is refused.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretString>,
    /// The body as `application/x-www-form-urlencoded`, by name; each value is a template.
    pub form: Option<BTreeMap<String, SecretString>>,
    /// The body as JSON: a template in which each value becomes JSON, a text with its quotes. Excludes `form`.
    pub json: Option<SecretString>,
    /// Credentials for basic authentication.
    pub basic: Option<Basic>,
    /// A bearer token. Excludes `basic`.
    pub bearer: Option<SecretString>,
    /// The position of the provider's code in a JSON response, as a JSON pointer (RFC 6901).
    pub code: Option<String>,
    /// The position of the provider's message id, as a JSON pointer.
    pub id: Option<String>,
    /// Responses that mean success. Without statuses, every 2xx; with codes, the response must contain one of them.
    #[serde(default)]
    pub success: Rule,
    /// Responses after which the message is retried, besides 408, 425, 429 and 5xx.
    #[serde(default)]
    pub transient: Rule,
    /// Responses that mean that the provider accepts nothing at present: for `Retry-After`, or for one second.
    #[serde(default)]
    pub throttled: Rule,
    /// Responses that mean a permanent failure, like those that no rule covers.
    #[serde(default)]
    pub permanent: Rule,
    /// Responses that mean that nothing can be delivered to this phone number any more.
    #[serde(default)]
    pub gone: Rule,
}

/// The methods that providers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// With a body; the usual method.
    #[default]
    Post,
    /// Without a body.
    Get,
    /// With a body.
    Put,
}

/// Credentials for basic authentication (RFC 7617). Both may contain environment variables.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user, without a colon.
    pub user: SecretString,
    /// The password.
    pub password: SecretString,
}

/// Responses with one meaning. The code takes precedence over the status, since it is more specific.
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
