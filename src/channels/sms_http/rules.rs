//! Interprets a response by the rules of the settings.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::Value;

use super::settings::{HttpSettings, Rule};
use crate::channels::http::is_transient;
use crate::error::Complaints;

/// The meaning of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Success,
    Transient,
    Throttled,
    Permanent,
    Gone,
    /// The status means success, but the body does not match the settings.
    Unreadable,
}

/// The rules for interpreting responses.
pub(super) struct Rules {
    code: Option<String>,
    id: Option<String>,
    /// Statuses that mean success; if empty, every 2xx.
    success: Vec<u16>,
    needs_code: bool,
    statuses: BTreeMap<u16, Meaning>,
    codes: BTreeMap<String, Meaning>,
}

/// The parts of a response that the rules select.
pub(super) struct ParsedResponse {
    pub(super) meaning: Meaning,
    /// The provider's code, if it is safe to show.
    pub(super) code: Option<String>,
    /// The provider's id of the message.
    pub(super) id: Option<String>,
}

impl Rules {
    /// Checks the rules, and adds errors to `complaints`.
    pub(super) fn new(settings: &HttpSettings, complaints: &mut Complaints) -> Self {
        for (field, pointer) in [("code", &settings.code), ("id", &settings.id)] {
            if pointer.as_ref().is_some_and(|pointer| !is_pointer(pointer)) {
                complaints.add(
                    format!("sms.http.{field}"),
                    "must be a JSON pointer (RFC 6901) such as /messages/0/status",
                );
            }
        }
        let mut rules = Self {
            code: settings.code.clone(),
            id: settings.id.clone(),
            success: settings.success.statuses.clone(),
            needs_code: !settings.success.codes.is_empty(),
            statuses: BTreeMap::new(),
            codes: BTreeMap::new(),
        };
        let sections = [
            ("success", &settings.success, Meaning::Success),
            ("transient", &settings.transient, Meaning::Transient),
            ("throttled", &settings.throttled, Meaning::Throttled),
            ("permanent", &settings.permanent, Meaning::Permanent),
            ("gone", &settings.gone, Meaning::Gone),
        ];
        for (section, rule, meaning) in sections {
            rules.add(&format!("sms.http.{section}"), rule, meaning, complaints);
        }
        rules
    }

    fn add(&mut self, field: &str, rule: &Rule, meaning: Meaning, complaints: &mut Complaints) {
        if self.code.is_none() && !rule.codes.is_empty() {
            complaints.add(format!("{field}.codes"), "needs sms.http.code, the position of the code");
        }
        for status in &rule.statuses {
            if !(200..=599).contains(status) {
                complaints.add(format!("{field}.statuses"), format!("{status} is not 200 to 599"));
            }
            if self.statuses.insert(*status, meaning).is_some() {
                complaints.add(format!("{field}.statuses"), format!("{status} is listed twice"));
            }
        }
        for code in &rule.codes {
            if self.codes.insert(code.to_string(), meaning).is_some() {
                complaints.add(format!("{field}.codes"), format!("{code} is listed twice"));
            }
        }
    }

    /// Returns true if the body of a response affects its meaning.
    pub(super) fn reads_bodies(&self) -> bool {
        self.code.is_some() || self.id.is_some()
    }

    /// Interprets a response. `body` is `None` if it could not be read.
    pub(super) fn read(&self, status: StatusCode, body: Option<&[u8]>) -> ParsedResponse {
        let json: Option<Value> = body.and_then(|body| serde_json::from_slice(body).ok());
        let at = |pointer: &Option<String>| json.as_ref()?.pointer(pointer.as_deref()?).and_then(scalar);
        let code = at(&self.code);
        let is_read = json.is_some() || !self.reads_bodies();
        let meaning = self.meaning(status, code.as_deref(), is_read);
        ParsedResponse { meaning, code: code.filter(|code| can_be_shown(code)), id: at(&self.id) }
    }

    fn meaning(&self, status: StatusCode, code: Option<&str>, is_read: bool) -> Meaning {
        let by_code = code.and_then(|code| self.codes.get(code)).copied();
        let by_status = self.statuses.get(&status.as_u16()).copied();
        // a success code does not turn a failure's status into a success
        if let Some(meaning) = [by_code, by_status].into_iter().flatten().find(|m| *m != Meaning::Success) {
            return meaning;
        }
        let is_success = if self.success.is_empty() { status.is_success() } else { by_status.is_some() };
        match (is_success, code) {
            (true, _) if !is_read => Meaning::Unreadable,
            (true, None) if self.needs_code => Meaning::Unreadable,
            (true, Some(_)) if self.needs_code && by_code.is_none() => Meaning::Permanent,
            (true, _) => Meaning::Success,
            (false, _) if is_transient(status) => Meaning::Transient,
            (false, _) => Meaning::Permanent,
        }
    }
}

fn is_pointer(text: &str) -> bool {
    let mut escapes = text.split('~').skip(1);
    text.starts_with('/') && escapes.all(|escape| escape.starts_with(['0', '1']))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

/// Returns true if the text can only be a code: the pointer may lead to a sentence, or to the phone number.
fn can_be_shown(code: &str) -> bool {
    let digits = code.bytes().filter(u8::is_ascii_digit).count();
    (1..=32).contains(&code.len())
        && digits < 7
        && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}
