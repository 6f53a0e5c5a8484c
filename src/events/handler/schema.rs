//! Request bodies of events, and their validation.

use std::collections::BTreeMap;

use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::{Complaints, Error, Result};
use crate::events::model::{LARGEST_PAYLOAD, MOST_TARGETS, Namespace, NewEvent, RawParts, key};
use crate::events::target::Target;
use crate::events::usecase::{LARGEST_BATCH, ParsedEvent};
use crate::events::views::EventTarget;
use crate::http::json::{canonical, each, time};
use crate::routes::pattern::EventName;

/// A business event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "event": "user.registered", "user_target": "reno",
    "payload": {"email": "reno@example.com", "name": "Reno", "msg": "Welcome Reno!"}
}))]
pub struct EventBody {
    /// The event's type, such as `order.shipped`.
    #[schema(min_length = 1, max_length = 100, pattern = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
    pub event: String,
    /// The main target: a client's id, external_id, e-mail address or phone number, or an object with some of
    /// client_id, external_id, email, phone_number, push_token, webhook_url and discord_url. Addresses under these
    /// names at the top level of the payload belong to this target too.
    #[schema(value_type = Option<EventTarget>)]
    pub user_target: Option<Box<RawValue>>,
    /// The other targets, by role, such as `{"seller": "crm-1", "buyer": {"email": "a@b.com"}}`; up to 20.
    #[schema(value_type = Option<BTreeMap<String, EventTarget>>)]
    pub targets: Option<Box<RawValue>>,
    /// The payload, up to 64 KiB of JSON: the values for the placeholders of its messages.
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Box<RawValue>>,
    /// The sender's id of the event. An equal event with the same id is accepted once.
    #[schema(min_length = 1, max_length = 200, pattern = "^[!-~]+$")]
    pub id: Option<String>,
    /// The time at which it happened, RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub occurred_at: Option<String>,
}

impl EventBody {
    /// Validates the event.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field.
    pub fn into_new(self) -> Result<NewEvent> {
        let mut wrong = Complaints::default();
        let name = wrong.check("event", self.event.parse::<EventName>());
        let parts = [&self.user_target, &self.targets, &self.payload];
        let fingerprint = fingerprint(&self.event, self.occurred_at.as_deref(), parts);
        let id = self.id.and_then(|id| wrong.check("id", key(id)));
        let user_target = self.user_target.as_ref().map(|raw| match value(raw) {
            Ok(value) => Target::read("user_target", &value, &mut wrong),
            Err(why) => {
                wrong.add("user_target", why);
                Target::default()
            }
        });
        let mut targets = BTreeMap::new();
        if let Some(raw) = &self.targets {
            for (role, value) in wrong.check("targets", object(raw)).unwrap_or_default() {
                let field = format!("targets.{role}");
                targets.insert(role, Target::read(&field, &value, &mut wrong));
            }
            if targets.len() > MOST_TARGETS {
                wrong.add("targets", format!("must have at most {MOST_TARGETS} targets"));
            }
        }
        let payload =
            self.payload.as_ref().map(|raw| wrong.check("payload", object(raw)).unwrap_or_default());
        let occurred_at = self.occurred_at.and_then(|text| wrong.check("occurred_at", time(&text)));
        wrong.finish()?;
        let text = |raw: Box<RawValue>| raw.get().to_owned();
        let payload_text = self.payload.map_or_else(|| "{}".to_owned(), text);
        let missing = || Error::internal("a validated event lacks a required field");
        Ok(NewEvent {
            key: id,
            name: name.ok_or_else(missing)?,
            user_target,
            targets,
            payload: payload.unwrap_or_default(),
            occurred_at,
            namespace: Namespace::Events,
            fingerprint,
            raw: RawParts {
                user_target: self.user_target.map(text),
                targets: self.targets.map(text),
                payload: payload_text,
            },
        })
    }
}

/// An action to store.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"id": "req-001", "action": "log", "created": "2026-01-11T10:00:00Z"}))]
pub struct ActionBody {
    /// The sender's id of the action. An equal action with the same id is accepted once.
    #[schema(min_length = 1, max_length = 200, pattern = "^[!-~]+$")]
    pub id: String,
    /// The action, which is the event's type.
    #[schema(min_length = 1, max_length = 100, pattern = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
    pub action: String,
    /// The time of the action, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub created: String,
}

impl ActionBody {
    /// Validates the action, and converts it into an event, which needs no route.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field.
    pub fn into_new(self) -> Result<NewEvent> {
        let Self { id, action, created } = self;
        let mut wrong = Complaints::default();
        wrong.check("action", action.parse::<EventName>());
        wrong.check("created", time(&created));
        wrong.check("id", key(id.clone()));
        wrong.finish()?;
        let (user_target, targets, payload) = (None, None, None);
        let body = EventBody {
            event: action,
            user_target,
            targets,
            payload,
            id: Some(id),
            occurred_at: Some(created),
        };
        Ok(NewEvent { namespace: Namespace::Actions, ..body.into_new()? })
    }
}

/// Returns a digest of an event's parts without its id. An absent part and `null` count as equal.
fn fingerprint(event: &str, occurred_at: Option<&str>, parts: [&Option<Box<RawValue>>; 3]) -> Vec<u8> {
    let mut digest = Context::new(&SHA256);
    let parts = parts.iter().map(|part| part.as_ref().map_or(&b"null"[..], |part| part.get().as_bytes()));
    let texts =
        [event, occurred_at.unwrap_or_default()].map(|text| Value::from(text).to_string().into_bytes());
    for part in texts.into_iter().chain(parts.map(canonical)) {
        digest.update(&part);
        digest.update(b"\n");
    }
    digest.finish().as_ref().to_vec()
}

fn value(raw: &RawValue) -> std::result::Result<Value, String> {
    if raw.get().len() > LARGEST_PAYLOAD {
        return Err(format!("must be at most {LARGEST_PAYLOAD} bytes of JSON"));
    }
    serde_json::from_str(raw.get()).map_err(|why| format!("cannot be parsed: {why}"))
}

fn object(raw: &RawValue) -> std::result::Result<Map<String, Value>, String> {
    match value(raw)? {
        Value::Object(object) => Ok(object),
        _ => Err("must be a JSON object".into()),
    }
}

/// A batch of 1 to 1000 events.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"events": [
    {"event": "order.shipped", "targets": {"buyer": "crm-1"}, "payload": {"order": 17}, "id": "order-17-shipped"}
]}))]
pub struct EventBatchBody {
    /// The events, each as in a separate request.
    #[schema(value_type = Vec<EventBody>, min_items = 1, max_items = 1000)]
    pub events: Vec<Box<RawValue>>,
}

impl EventBatchBody {
    /// Parses each event separately.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty batch, and for more than 1000 events.
    pub fn into_wanted(self) -> Result<Vec<ParsedEvent>> {
        each(("events", LARGEST_BATCH), self.events, |_, body: EventBody| body.into_new())
    }
}
