//! What an answer means, by the rules of the settings.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::Value;

use super::settings::{HttpSettings, Rule};
use crate::channels::http::is_transient;
use crate::error::Complaints;

/// What an answer comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Success,
    Transient,
    Throttled,
    Permanent,
    Gone,
    /// The status says success, and the body is not what the settings say of it.
    Unreadable,
}

/// What the settings say of answers.
pub(super) struct Rules {
    code: Option<String>,
    id: Option<String>,
    /// Statuses that mean success; none for every 2xx.
    success: Vec<u16>,
    needs_code: bool,
    statuses: BTreeMap<u16, Meaning>,
    codes: BTreeMap<String, Meaning>,
}

/// What was found in an answer.
pub(super) struct Found {
    pub(super) meaning: Meaning,
    /// The provider's code, if it can be shown.
    pub(super) code: Option<String>,
    /// The provider's id of the message.
    pub(super) id: Option<String>,
}

impl Rules {
    /// Checks the rules; what is wrong goes to the complaints.
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
            complaints.add(format!("{field}.codes"), "sms.http.code must say where the code stands");
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

    /// Whether the body of such an answer matters.
    pub(super) fn reads_bodies(&self) -> bool {
        self.code.is_some() || self.id.is_some()
    }

    /// What an answer means; its body is none when it could not be had.
    pub(super) fn read(&self, status: StatusCode, body: Option<&[u8]>) -> Found {
        let json: Option<Value> = body.and_then(|body| serde_json::from_slice(body).ok());
        let at = |pointer: &Option<String>| json.as_ref()?.pointer(pointer.as_deref()?).and_then(scalar);
        let code = at(&self.code);
        let is_read = json.is_some() || !self.reads_bodies();
        let meaning = self.meaning(status, code.as_deref(), is_read);
        Found { meaning, code: code.filter(|code| can_be_shown(code)), id: at(&self.id) }
    }

    fn meaning(&self, status: StatusCode, code: Option<&str>, is_read: bool) -> Meaning {
        let by_code = code.and_then(|code| self.codes.get(code)).copied();
        let by_status = self.statuses.get(&status.as_u16()).copied();
        // a code of success does not make a success of a failure's status
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

/// Whether it can only be a code: a pointer may lead to a sentence, or to the phone number.
fn can_be_shown(code: &str) -> bool {
    let digits = code.bytes().filter(u8::is_ascii_digit).count();
    (1..=32).contains(&code.len())
        && digits < 7
        && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}
