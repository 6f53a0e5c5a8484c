//! The fields of each kind of credential, and their validation.

use hyper::header::HeaderName;
use serde_json::{Value, json};

use super::model::{ClientAuth, CredentialSecret, CredentialSummary, Kind};
use crate::channels::IDEMPOTENCY_KEY;
use crate::egress::guard::is_the_guards;
use crate::error::{Complaints, Result};
use crate::kinds::description;
use crate::oauth::Account;
use crate::oauth::account::FIREBASE_SCOPE;

/// The longest secret, in characters.
pub const LONGEST_SECRET: usize = 4096;
/// The longest public field (names, scopes, audience), in characters.
pub const LONGEST_TEXT: usize = 1000;
/// The most scopes of a service account.
pub const MOST_SCOPES: usize = 20;
/// The longest JSON of a service account's key, in bytes. Google's have about 2,400.
const LONGEST_ACCOUNT: usize = 16 * 1024;

/// The fields of a request for a credential. Absent fields keep their values. It has no `Debug`, so that no log can
/// show it.
#[derive(Clone, Default)]
pub struct CredentialChanges {
    /// The description for people; `Some(None)` clears it.
    pub description: Option<Option<String>>,
    /// The username of `basic`.
    pub username: Option<String>,
    /// The password of `basic`.
    pub password: Option<String>,
    /// The token of `bearer`.
    pub token: Option<String>,
    /// The name of the header of `header`.
    pub header: Option<String>,
    /// The value of the header of `header`.
    pub value: Option<String>,
    /// The token endpoint of `oauth2`.
    pub token_url: Option<String>,
    /// The client id of `oauth2`.
    pub client_id: Option<String>,
    /// The client secret of `oauth2`.
    pub client_secret: Option<String>,
    /// The scope of `oauth2`; `Some(None)` clears it.
    pub scope: Option<Option<String>>,
    /// The audience of `oauth2`; `Some(None)` clears it.
    pub audience: Option<Option<String>>,
    /// The way of authentication at the token endpoint of `oauth2`.
    pub client_auth: Option<ClientAuth>,
    /// The JSON of the key of `google_service_account`, as an object or as a string.
    pub service_account: Option<Value>,
    /// The scopes of `google_service_account`.
    pub scopes: Option<Vec<String>>,
}

/// Checks a URL. The error is the reason why the URL is refused.
pub type UrlCheck<'a> = &'a dyn Fn(&str) -> std::result::Result<(), String>;

impl CredentialChanges {
    /// Returns the fields of a credential, without secret fields if its secret could not be decrypted.
    pub fn of(shown: CredentialSummary, secret: Option<CredentialSecret>) -> Self {
        let mut all = Self::default();
        match shown {
            CredentialSummary::Basic { username } => all.username = username,
            CredentialSummary::Bearer => {}
            CredentialSummary::Header { header } => all.header = Some(header),
            CredentialSummary::Oauth2 { token_url, client_id, scope, audience, client_auth } => {
                (all.token_url, all.client_id) = (Some(token_url), Some(client_id));
                (all.scope, all.audience, all.client_auth) = (Some(scope), Some(audience), Some(client_auth));
            }
            CredentialSummary::GoogleServiceAccount { scopes, .. } => all.scopes = Some(scopes),
        }
        match secret {
            None => {}
            Some(CredentialSecret::Basic { username, password }) => {
                all.username = all.username.or(username);
                all.password = Some(password);
            }
            Some(CredentialSecret::Bearer { token }) => all.token = Some(token),
            Some(CredentialSecret::Header { value }) => all.value = Some(value),
            Some(CredentialSecret::Oauth2 { client_secret }) => all.client_secret = Some(client_secret),
            Some(CredentialSecret::GoogleServiceAccount { service_account }) => {
                all.service_account = Some(service_account.into());
            }
        }
        all
    }

    /// Returns these fields, with absent ones taken from `those`.
    pub fn over(self, those: Self) -> Self {
        Self {
            description: self.description.or(those.description),
            username: self.username.or(those.username),
            password: self.password.or(those.password),
            token: self.token.or(those.token),
            header: self.header.or(those.header),
            value: self.value.or(those.value),
            token_url: self.token_url.or(those.token_url),
            client_id: self.client_id.or(those.client_id),
            client_secret: self.client_secret.or(those.client_secret),
            scope: self.scope.or(those.scope),
            audience: self.audience.or(those.audience),
            client_auth: self.client_auth.or(those.client_auth),
            service_account: self.service_account.or(those.service_account),
            scopes: self.scopes.or(those.scopes),
        }
    }

    /// Returns the names of the present fields, without the description.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("username", self.username.is_some()),
            ("password", self.password.is_some()),
            ("token", self.token.is_some()),
            ("header", self.header.is_some()),
            ("value", self.value.is_some()),
            ("token_url", self.token_url.is_some()),
            ("client_id", self.client_id.is_some()),
            ("client_secret", self.client_secret.is_some()),
            ("scope", self.scope.is_some()),
            ("audience", self.audience.is_some()),
            ("client_auth", self.client_auth.is_some()),
            ("service_account", self.service_account.is_some()),
            ("scopes", self.scopes.is_some()),
        ];
        all.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name)
    }

    /// Returns true if no field but the description is present.
    pub fn leaves_the_secret(&self) -> bool {
        self.given().next().is_none()
    }

    /// Returns true if every required field of this kind is present.
    pub fn are_whole(&self, kind: Kind) -> bool {
        needed(kind).iter().all(|part| self.given().any(|given| given == *part))
    }
}

/// Returns the required fields of a kind.
fn needed(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Basic => &["username", "password"],
        Kind::Bearer => &["token"],
        Kind::Header => &["header", "value"],
        Kind::Oauth2 => &["token_url", "client_id", "client_secret"],
        Kind::GoogleServiceAccount => &["service_account"],
    }
}

/// Returns the optional fields of a kind.
fn possible(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Oauth2 => &["scope", "audience", "client_auth"],
        Kind::GoogleServiceAccount => &["scopes"],
        Kind::Basic | Kind::Bearer | Kind::Header => &[],
    }
}

/// Validates the description.
pub fn check_description(changes: &CredentialChanges, wrong: &mut Complaints) {
    if let Some(Some(text)) = &changes.description {
        wrong.check("description", description(text));
    }
}

/// Builds a credential from its fields. Validation errors never echo values.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) with every field that is missing, invalid, or of another kind.
pub fn make(
    kind: Kind,
    changes: CredentialChanges,
    check_url: UrlCheck<'_>,
    mut wrong: Complaints,
) -> Result<(CredentialSummary, CredentialSecret)> {
    check_description(&changes, &mut wrong);
    let (needed, possible) = (needed(kind), possible(kind));
    for part in changes.given().filter(|part| !needed.contains(part) && !possible.contains(part)) {
        let own = needed.iter().chain(possible).copied().collect::<Vec<_>>().join(", ");
        wrong.add(part, format!("is not a field of a credential of kind {kind}, which has {own}"));
    }
    for part in needed.iter().filter(|part| !changes.given().any(|given| given == **part)) {
        wrong.add(*part, format!("is required for a credential of kind {kind}"));
    }
    let made = match kind {
        Kind::Basic => basic(changes, &mut wrong),
        Kind::Bearer => bearer(changes, &mut wrong),
        Kind::Header => header(changes, &mut wrong),
        Kind::Oauth2 => oauth2(changes, check_url, &mut wrong),
        Kind::GoogleServiceAccount => google(changes, check_url, &mut wrong),
    };
    wrong.finish()?;
    made.ok_or_else(|| crate::error::Error::internal("a credential lacks a field that passed validation"))
}

/// Checks the length of a field, and that `is_fine` is true for all of its characters.
fn check(
    wrong: &mut Complaints,
    (part, text): (&str, &str),
    (least, most): (usize, usize),
    (is_fine, what): (fn(char) -> bool, &str),
) {
    if !(least..=most).contains(&text.chars().count()) || !text.chars().all(is_fine) {
        wrong.add(part, format!("must be {least} to {most} {what}"));
    }
}

/// The characters `VSCHAR` of RFC 6749, appendix A.
const PRINTABLE: (fn(char) -> bool, &str) = (|c| matches!(c, ' '..='~'), "printable ASCII characters");
const VISIBLE: (fn(char) -> bool, &str) =
    (|c| c.is_ascii_graphic(), "visible ASCII characters, without spaces");
const TEXT: (fn(char) -> bool, &str) = (|c| !c.is_control(), "characters without control characters");

fn basic(
    changes: CredentialChanges,
    wrong: &mut Complaints,
) -> Option<(CredentialSummary, CredentialSecret)> {
    let (username, password) = (changes.username?, changes.password?);
    // RFC 7617, 2: the first colon ends the username
    let (is_fine, what): (fn(char) -> bool, _) =
        (|c| !c.is_control() && c != ':', "characters without colons and control characters");
    check(wrong, ("username", &username), (0, LONGEST_TEXT), (is_fine, what));
    check(wrong, ("password", &password), (0, LONGEST_SECRET), TEXT);
    if username.is_empty() && password.is_empty() {
        wrong.add("password", "must not be empty if the username is");
    }
    let (shown, hidden) = if password.is_empty() { (None, Some(username)) } else { (Some(username), None) };
    Some((
        CredentialSummary::Basic { username: shown },
        CredentialSecret::Basic { username: hidden, password },
    ))
}

fn bearer(
    changes: CredentialChanges,
    wrong: &mut Complaints,
) -> Option<(CredentialSummary, CredentialSecret)> {
    let token = changes.token?;
    check(wrong, ("token", &token), (1, LONGEST_SECRET), VISIBLE);
    Some((CredentialSummary::Bearer, CredentialSecret::Bearer { token }))
}

fn header(
    changes: CredentialChanges,
    wrong: &mut Complaints,
) -> Option<(CredentialSummary, CredentialSecret)> {
    let (header, value) = (changes.header?, changes.value?);
    match HeaderName::try_from(header.as_str()) {
        Ok(_) if header.len() > LONGEST_TEXT => wrong.add("header", "must be 1 to 1000 characters"),
        Ok(name) if is_the_guards(&name) || name == IDEMPOTENCY_KEY => {
            wrong.add("header", "is a header that the service or the connection sets");
        }
        Ok(_) => {}
        Err(_) => wrong.add("header", "must be a header name such as X-Api-Key (RFC 9110, 5.1)"),
    }
    check(wrong, ("value", &value), (1, LONGEST_SECRET), PRINTABLE);
    if value.trim() != value {
        wrong.add("value", "must not begin or end with a space");
    }
    Some((
        CredentialSummary::Header { header: header.to_ascii_lowercase() },
        CredentialSecret::Header { value },
    ))
}

fn oauth2(
    changes: CredentialChanges,
    check_url: UrlCheck<'_>,
    wrong: &mut Complaints,
) -> Option<(CredentialSummary, CredentialSecret)> {
    let (scope, audience) = (changes.scope.flatten(), changes.audience.flatten());
    if let Some(scope) = &scope {
        // RFC 6749, 3.3: tokens separated by one space
        let is_fine = scope.split(' ').all(is_scope) && scope.chars().count() <= LONGEST_TEXT;
        if !is_fine {
            wrong.add(
                "scope",
                "must be scopes separated by one space, 1 to 1000 ASCII characters (RFC 6749, 3.3)",
            );
        }
    }
    if let Some(audience) = &audience {
        check(wrong, ("audience", audience), (1, LONGEST_TEXT), TEXT);
    }
    let (token_url, client_id, client_secret) =
        (changes.token_url?, changes.client_id?, changes.client_secret?);
    wrong.check("token_url", check_url(&token_url));
    if token_url.contains('#') {
        wrong.add("token_url", "must not have a fragment (RFC 6749, 3.2)");
    }
    check(wrong, ("client_id", &client_id), (1, LONGEST_TEXT), PRINTABLE);
    check(wrong, ("client_secret", &client_secret), (1, LONGEST_SECRET), PRINTABLE);
    let client_auth = changes.client_auth.unwrap_or_default();
    let shown = CredentialSummary::Oauth2 { token_url, client_id, scope, audience, client_auth };
    Some((shown, CredentialSecret::Oauth2 { client_secret }))
}

/// Returns true for a `scope-token` of RFC 6749, 3.3.
fn is_scope(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

fn google(
    changes: CredentialChanges,
    check_url: UrlCheck<'_>,
    wrong: &mut Complaints,
) -> Option<(CredentialSummary, CredentialSecret)> {
    let scopes = changes.scopes.unwrap_or_else(|| vec![FIREBASE_SCOPE.to_owned()]);
    let is_fine = |scope: &String| is_scope(scope) && scope.len() <= LONGEST_TEXT;
    if !(1..=MOST_SCOPES).contains(&scopes.len()) || !scopes.iter().all(is_fine) {
        wrong.add("scopes", "must be 1 to 20 scopes of visible ASCII characters (RFC 6749, 3.3)");
    }
    let text = match changes.service_account? {
        Value::String(text) => text,
        object => object.to_string(),
    };
    if text.len() > LONGEST_ACCOUNT {
        wrong.add("service_account", "must be at most 16 KiB");
        return None;
    }
    let account = wrong.check("service_account", Account::parse(&text.as_str().into()))?;
    if let Err(why) = check_url(&account.token_uri) {
        wrong.add("service_account", format!("its `token_uri`: {why}"));
    }
    let whole: Value = serde_json::from_str(&text).ok()?;
    // other fields of the file are not stored
    let kept = json!({
        "type": "service_account", "project_id": account.project, "private_key_id": account.key_id,
        "private_key": whole.get("private_key")?, "client_email": account.email, "token_uri": account.token_uri,
    });
    let Account { project: project_id, token_uri, email: client_email, key_id: private_key_id, .. } = account;
    let shown = CredentialSummary::GoogleServiceAccount {
        client_email,
        project_id,
        private_key_id,
        token_uri,
        scopes,
    };
    Some((shown, CredentialSecret::GoogleServiceAccount { service_account: kept.to_string() }))
}

#[cfg(test)]
mod tests;
