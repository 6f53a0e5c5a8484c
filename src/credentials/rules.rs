//! What each kind of credential is made of, and what each part may be.

use hyper::header::HeaderName;
use serde_json::{Value, json};

use super::model::{ClientAuth, Kind, Secret, Shown};
use crate::channels::IDEMPOTENCY_KEY;
use crate::egress::guard::is_the_guards;
use crate::error::{Complaints, Result};
use crate::kinds::description;
use crate::oauth::Account;
use crate::oauth::account::FIREBASE_SCOPE;

/// Characters of a secret at most.
pub const LONGEST_SECRET: usize = 4096;
/// Characters of what is no secret at most: names, scopes, an audience.
pub const LONGEST_TEXT: usize = 1000;
/// Scopes of a service account at most.
pub const MOST_SCOPES: usize = 20;
/// Bytes of the JSON of a service account's key at most; Google's have 2.4 thousand.
const LONGEST_ACCOUNT: usize = 16 * 1024;

/// What somebody says of a credential. What is absent stays as it is. It has no `Debug`, so that no log can show it.
#[derive(Clone, Default)]
pub struct Changes {
    /// Words for people; none at all.
    pub description: Option<Option<String>>,
    /// Of `basic`.
    pub username: Option<String>,
    /// Of `basic`.
    pub password: Option<String>,
    /// Of `bearer`.
    pub token: Option<String>,
    /// Of `header`: its name.
    pub header: Option<String>,
    /// Of `header`.
    pub value: Option<String>,
    /// Of `oauth2`.
    pub token_url: Option<String>,
    /// Of `oauth2`.
    pub client_id: Option<String>,
    /// Of `oauth2`.
    pub client_secret: Option<String>,
    /// Of `oauth2`; none at all.
    pub scope: Option<Option<String>>,
    /// Of `oauth2`; none at all.
    pub audience: Option<Option<String>>,
    /// Of `oauth2`.
    pub client_auth: Option<ClientAuth>,
    /// Of `google_service_account`: the JSON of its key, as an object or as a text.
    pub service_account: Option<Value>,
    /// Of `google_service_account`.
    pub scopes: Option<Vec<String>>,
}

/// Says what is against a URL.
pub type UrlCheck<'a> = &'a dyn Fn(&str) -> std::result::Result<(), String>;

impl Changes {
    /// What would make this credential; of a secret that could not be opened nothing.
    pub fn of(shown: Shown, secret: Option<Secret>) -> Self {
        let mut all = Self::default();
        match shown {
            Shown::Basic { username } => all.username = username,
            Shown::Bearer => {}
            Shown::Header { header } => all.header = Some(header),
            Shown::Oauth2 { token_url, client_id, scope, audience, client_auth } => {
                (all.token_url, all.client_id) = (Some(token_url), Some(client_id));
                (all.scope, all.audience, all.client_auth) = (Some(scope), Some(audience), Some(client_auth));
            }
            Shown::GoogleServiceAccount { scopes, .. } => all.scopes = Some(scopes),
        }
        match secret {
            None => {}
            Some(Secret::Basic { username, password }) => {
                all.username = all.username.or(username);
                all.password = Some(password);
            }
            Some(Secret::Bearer { token }) => all.token = Some(token),
            Some(Secret::Header { value }) => all.value = Some(value),
            Some(Secret::Oauth2 { client_secret }) => all.client_secret = Some(client_secret),
            Some(Secret::GoogleServiceAccount { service_account }) => {
                all.service_account = Some(service_account.into());
            }
        }
        all
    }

    /// These, and where they say nothing, those.
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

    /// The parts that are given, apart from the description.
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

    /// Whether nothing is said of what lets a request in.
    pub fn leaves_the_secret(&self) -> bool {
        self.given().next().is_none()
    }

    /// Whether they have all that a credential of this kind must have.
    pub fn are_whole(&self, kind: Kind) -> bool {
        needed(kind).iter().all(|part| self.given().any(|given| given == *part))
    }
}

/// What a credential of a kind must have.
fn needed(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Basic => &["username", "password"],
        Kind::Bearer => &["token"],
        Kind::Header => &["header", "value"],
        Kind::Oauth2 => &["token_url", "client_id", "client_secret"],
        Kind::GoogleServiceAccount => &["service_account"],
    }
}

/// What it may have besides.
fn possible(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Oauth2 => &["scope", "audience", "client_auth"],
        Kind::GoogleServiceAccount => &["scopes"],
        Kind::Basic | Kind::Bearer | Kind::Header => &[],
    }
}

/// Complains of a description that is none.
pub fn check_description(changes: &Changes, wrong: &mut Complaints) {
    if let Some(Some(text)) = &changes.description {
        wrong.check("description", description(text));
    }
}

/// The credential that these make: what is shown of it, and what is not. No complaint repeats what was given.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) that names each part that is missing, wrong, or another kind's.
pub fn make(
    kind: Kind,
    changes: Changes,
    check_url: UrlCheck<'_>,
    mut wrong: Complaints,
) -> Result<(Shown, Secret)> {
    check_description(&changes, &mut wrong);
    let (needed, possible) = (needed(kind), possible(kind));
    for part in changes.given().filter(|part| !needed.contains(part) && !possible.contains(part)) {
        let own = needed.iter().chain(possible).copied().collect::<Vec<_>>().join(", ");
        wrong.add(part, format!("does not belong to a credential of the kind {kind}, which has {own}"));
    }
    for part in needed.iter().filter(|part| !changes.given().any(|given| given == **part)) {
        wrong.add(*part, format!("is missing: a credential of the kind {kind} has it"));
    }
    let made = match kind {
        Kind::Basic => basic(changes, &mut wrong),
        Kind::Bearer => bearer(changes, &mut wrong),
        Kind::Header => header(changes, &mut wrong),
        Kind::Oauth2 => oauth2(changes, check_url, &mut wrong),
        Kind::GoogleServiceAccount => google(changes, check_url, &mut wrong),
    };
    wrong.finish()?;
    made.ok_or_else(|| crate::error::Error::internal("a credential lacks a part and nothing complained"))
}

/// Complains of a part for which `is_fine` is not so of each character, or that is too short or too long.
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

/// RFC 6749, appendix A: `VSCHAR`.
const PRINTABLE: (fn(char) -> bool, &str) = (|c| matches!(c, ' '..='~'), "printable characters of ASCII");
const VISIBLE: (fn(char) -> bool, &str) =
    (|c| c.is_ascii_graphic(), "visible characters of ASCII, without spaces");
const TEXT: (fn(char) -> bool, &str) = (|c| !c.is_control(), "characters, no control characters among them");

fn basic(changes: Changes, wrong: &mut Complaints) -> Option<(Shown, Secret)> {
    let (username, password) = (changes.username?, changes.password?);
    // RFC 7617, 2: a colon ends the name
    let (is_fine, what): (fn(char) -> bool, _) =
        (|c| !c.is_control() && c != ':', "characters, no colon and no control characters among them");
    check(wrong, ("username", &username), (0, LONGEST_TEXT), (is_fine, what));
    check(wrong, ("password", &password), (0, LONGEST_SECRET), TEXT);
    if username.is_empty() && password.is_empty() {
        wrong.add("password", "must not be empty when the name is");
    }
    let (shown, hidden) = if password.is_empty() { (None, Some(username)) } else { (Some(username), None) };
    Some((Shown::Basic { username: shown }, Secret::Basic { username: hidden, password }))
}

fn bearer(changes: Changes, wrong: &mut Complaints) -> Option<(Shown, Secret)> {
    let token = changes.token?;
    check(wrong, ("token", &token), (1, LONGEST_SECRET), VISIBLE);
    Some((Shown::Bearer, Secret::Bearer { token }))
}

fn header(changes: Changes, wrong: &mut Complaints) -> Option<(Shown, Secret)> {
    let (header, value) = (changes.header?, changes.value?);
    match HeaderName::try_from(header.as_str()) {
        Ok(_) if header.len() > LONGEST_TEXT => wrong.add("header", "must be 1 to 1000 characters"),
        Ok(name) if is_the_guards(&name) || name == IDEMPOTENCY_KEY => {
            wrong.add("header", "is one that the service or the connection sets");
        }
        Ok(_) => {}
        Err(_) => wrong.add("header", "must be the name of a header, such as X-Api-Key (RFC 9110, 5.1)"),
    }
    check(wrong, ("value", &value), (1, LONGEST_SECRET), PRINTABLE);
    if value.trim() != value {
        wrong.add("value", "must have no spaces at its ends");
    }
    Some((Shown::Header { header: header.to_ascii_lowercase() }, Secret::Header { value }))
}

fn oauth2(changes: Changes, check_url: UrlCheck<'_>, wrong: &mut Complaints) -> Option<(Shown, Secret)> {
    let (scope, audience) = (changes.scope.flatten(), changes.audience.flatten());
    if let Some(scope) = &scope {
        // RFC 6749, 3.3: tokens with a space between
        let is_fine = scope.split(' ').all(is_scope) && scope.chars().count() <= LONGEST_TEXT;
        if !is_fine {
            wrong.add(
                "scope",
                "must be words with one space between, 1 to 1000 characters of ASCII (RFC 6749, 3.3)",
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
        wrong.add("token_url", "must have no fragment (RFC 6749, 3.2)");
    }
    check(wrong, ("client_id", &client_id), (1, LONGEST_TEXT), PRINTABLE);
    check(wrong, ("client_secret", &client_secret), (1, LONGEST_SECRET), PRINTABLE);
    let client_auth = changes.client_auth.unwrap_or_default();
    let shown = Shown::Oauth2 { token_url, client_id, scope, audience, client_auth };
    Some((shown, Secret::Oauth2 { client_secret }))
}

/// RFC 6749, 3.3: `scope-token`.
fn is_scope(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

fn google(changes: Changes, check_url: UrlCheck<'_>, wrong: &mut Complaints) -> Option<(Shown, Secret)> {
    let scopes = changes.scopes.unwrap_or_else(|| vec![FIREBASE_SCOPE.to_owned()]);
    let is_fine = |scope: &String| is_scope(scope) && scope.len() <= LONGEST_TEXT;
    if !(1..=MOST_SCOPES).contains(&scopes.len()) || !scopes.iter().all(is_fine) {
        wrong.add("scopes", "must be 1 to 20 words of visible ASCII (RFC 6749, 3.3)");
    }
    let text = match changes.service_account? {
        Value::String(text) => text,
        object => object.to_string(),
    };
    if text.len() > LONGEST_ACCOUNT {
        wrong.add("service_account", "must have at most 16 KiB");
        return None;
    }
    let account = wrong.check("service_account", Account::parse(&text.as_str().into()))?;
    if let Err(why) = check_url(&account.token_uri) {
        wrong.add("service_account", format!("its `token_uri`: {why}"));
    }
    let whole: Value = serde_json::from_str(&text).ok()?;
    // what else stands in the file is not kept
    let kept = json!({
        "type": "service_account", "project_id": account.project, "private_key_id": account.key_id,
        "private_key": whole.get("private_key")?, "client_email": account.email, "token_uri": account.token_uri,
    });
    let Account { project: project_id, token_uri, email: client_email, key_id: private_key_id, .. } = account;
    let shown = Shown::GoogleServiceAccount { client_email, project_id, private_key_id, token_uri, scopes };
    Some((shown, Secret::GoogleServiceAccount { service_account: kept.to_string() }))
}

#[cfg(test)]
mod tests;
