//! Which messages an event causes: its routes' deliveries, each for somebody, rendered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use minijinja::value::Value;
use serde_json::json;

use super::model::{Draft, DraftTemplate, NewEvent, Plan, Skipped};
use super::target::Target;
use crate::clients::reach::{self, Reach};
use crate::db::types::{ClientId, EventId, Timestamp};
use crate::error::{Complaints, Error, Result};
use crate::kinds::ChannelKind;
use crate::mailings::recipient::Recipient;
use crate::notifications::model::Raw;
use crate::notifications::repo::Addresses;
use crate::routes::model::{Compiled, PAYLOAD, Step, USER};
use crate::templates::{self, Filled, Variants};

/// A client whom an event concerns.
#[derive(Debug, Clone)]
pub struct Person {
    /// Which client.
    pub id: ClientId,
    /// Where it is reached.
    pub addresses: Addresses,
    /// What fills the placeholders.
    pub recipient: Recipient,
}

/// The templates of an event's deliveries.
pub type Texts = HashMap<(String, ChannelKind), Arc<Variants>>;

/// Says why nothing can be sent to an address of a channel here.
pub type Admit<'a> = &'a (dyn Fn(ChannelKind, &str) -> std::result::Result<(), String> + Sync);

/// A delivery that an event asks for: its route and itself, and whether its condition holds.
pub type Asked<'r> = (&'r Compiled, &'r Step);

/// The deliveries of these routes whose conditions hold.
pub fn asked<'r>(event: &NewEvent, at: (EventId, Timestamp), routes: &[&'r Compiled]) -> Vec<Asked<'r>> {
    let values = templates::values(&json!({ "payload": event.payload, "event": about(event, at) }));
    let enabled = routes.iter().filter(|route| route.route.enabled);
    let steps = enabled.flat_map(|route| route.steps.iter().map(move |step| (*route, step)));
    steps.filter(|(_, step)| step.condition.as_ref().is_none_or(|it| it.holds(&values))).collect()
}

/// What texts may say of the event itself.
fn about(event: &NewEvent, (id, now): (EventId, Timestamp)) -> serde_json::Value {
    let occurred_at = event.occurred_at.unwrap_or(now);
    json!({ "name": event.name.as_str(), "id": event.key.clone().unwrap_or_else(|| id.to_string()),
        "occurred_at": occurred_at })
}

/// Whom these deliveries are for, by the names of their targets.
///
/// # Errors
/// [`Error::Invalid`] that names each target that the event should name and does not.
pub fn targets(event: &NewEvent, asked: &[Asked<'_>]) -> Result<BTreeMap<String, Target>> {
    let mut wrong = Complaints::default();
    let mut found = BTreeMap::new();
    for (route, step) in asked.iter().filter(|(_, step)| step.delivery.recipient.is_none()) {
        let name = &step.delivery.target;
        if found.contains_key(name) {
            continue;
        }
        let (field, target) = match name.strip_prefix(PAYLOAD) {
            Some(path) => (name.clone(), in_payload(event, path, &mut wrong)),
            None if name == USER => {
                let target = event.user_target.clone().unwrap_or_default().with_payload(&event.payload);
                ("user_target".to_owned(), Some(target).filter(|target| !target.is_empty()))
            }
            None => (format!("targets.{name}"), event.targets.get(name).cloned()),
        };
        match target {
            Some(target) => {
                found.insert(name.clone(), target);
            }
            None => {
                wrong.add(field, format!("is required: the route {} sends to it", route.route.event));
            }
        }
    }
    wrong.finish().map(|()| found)
}

/// A target that stands in the payload, a client's name or an address.
fn in_payload(event: &NewEvent, path: &str, wrong: &mut Complaints) -> Option<Target> {
    let mut words = path.split('.');
    let mut value = event.payload.get(words.next()?)?;
    for word in words {
        value = value.get(word)?;
    }
    let field = format!("{PAYLOAD}{path}");
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::Number(number) => Some(Target::reference(&number.to_string())),
        value => Some(Target::read(&field, value, wrong)),
    }
}

/// What is known when the messages are made.
pub struct Known<'a> {
    /// Whom they are for.
    pub targets: &'a BTreeMap<String, Target>,
    /// The clients among them, by the targets' names.
    pub people: &'a HashMap<String, Person>,
    /// What they say.
    pub templates: &'a Texts,
    /// Where they may go.
    pub admit: Admit<'a>,
}

/// The messages of an event.
///
/// # Errors
/// [`Error::Invalid`] when a template asks for what neither the payload nor the client has.
pub fn plan(
    event: &NewEvent,
    at: (EventId, Timestamp),
    asked: &[Asked<'_>],
    known: &Known<'_>,
) -> Result<Plan> {
    let mut wrong = Complaints::default();
    let mut plan = Plan::default();
    let mut seen = HashSet::new();
    let mut values: HashMap<&str, Value> = HashMap::new();
    let data = payload_data(event, at)?;
    for (route, step) in asked {
        let delivery = &step.delivery;
        let (channel, name) = (delivery.channel, delivery.target.as_str());
        let mut skip = |reason: String| {
            plan.skipped.push(Skipped {
                route: route.route.event.to_string(),
                channel,
                target: name.to_owned(),
                reason,
            });
        };
        let person = known.people.get(name).filter(|_| delivery.recipient.is_none());
        let recipient = match address(step, person, known.targets.get(name)) {
            Ok(address) => address,
            Err(reason) => {
                skip(reason);
                continue;
            }
        };
        if let Err(reason) = (known.admit)(channel, &recipient) {
            skip(reason);
            continue;
        }
        if !seen.insert((channel, recipient.clone(), delivery.template.clone())) {
            skip("another route sends the same to the same address".into());
            continue;
        }
        let values = values.entry(name).or_insert_with(|| values_of(event, at, person));
        let said = match say(step, person, event, known.templates, values) {
            Ok(said) => said,
            Err(reason) => {
                wrong.add("payload", reason);
                continue;
            }
        };
        let Said { filled: Filled { subject, text, html }, template } = said;
        let starts = at.1.plus(step.delay);
        plan.notifications.push(Draft {
            route: route.route.event.to_string(),
            channel,
            target: name.to_owned(),
            recipient,
            client_id: person.map(|person| person.id),
            template,
            subject,
            content: text,
            html,
            data: (channel == ChannelKind::Webhook).then(|| data.clone()),
            priority: delivery.priority,
            group: group(route, event),
            transactional: route.route.transactional,
            scheduled_at: (!step.delay.is_zero()).then_some(starts),
            expires_at: step.expires_after.map(|length| starts.plus(length)),
        });
    }
    wrong.finish().map(|()| plan)
}

/// What clients may opt out of: the route's group, or the event's first word.
fn group(route: &Compiled, event: &NewEvent) -> String {
    let own = route.route.group.clone();
    own.unwrap_or_else(|| event.name.first_word().to_lowercase().chars().take(64).collect())
}

/// A webhook's program is told all of the event.
fn payload_data(event: &NewEvent, at: (EventId, Timestamp)) -> Result<Raw> {
    let data = json!({ "event": about(event, at), "payload": event.payload }).to_string();
    Raw::stored(Some(data))?.ok_or_else(|| Error::internal("a text became none"))
}

fn address(step: &Step, person: Option<&Person>, target: Option<&Target>) -> Result<String, String> {
    let channel = step.delivery.channel;
    if let Some(fixed) = &step.delivery.recipient {
        return Ok(fixed.clone());
    }
    let reached = person.and_then(|person| {
        let reach: Reach<'_> = person.addresses.reach(person.id);
        reach.on(channel)
    });
    let own = || target.and_then(|target| target.address(channel));
    reached.or_else(own).ok_or_else(|| match person {
        Some(_) => reach::lacks(channel),
        None => format!("there is no such client, and no address that `{channel}` needs"),
    })
}

/// What fills the placeholders: the client's fields and attributes, over them the payload's, and all of it by name.
fn values_of(event: &NewEvent, at: (EventId, Timestamp), person: Option<&Person>) -> Value {
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    if let Some(person) = person {
        let client = person.recipient.values();
        if let Ok(names) = client.try_iter() {
            for name in names {
                if let (Some(text), Ok(value)) = (name.as_str(), client.get_item(&name)) {
                    values.insert(text.to_owned(), value);
                }
            }
        }
        values.insert("client".into(), client);
    }
    let payload = event.payload.iter().map(|(name, value)| (name.clone(), templates::values(value)));
    let payload: BTreeMap<String, Value> = payload.collect();
    values.extend(payload.iter().map(|(name, value)| (name.clone(), value.clone())));
    values.insert("payload".into(), Value::from(payload));
    values.insert("event".into(), templates::values(&about(event, at)));
    Value::from(values)
}

struct Said {
    filled: Filled,
    template: Option<DraftTemplate>,
}

fn say(
    step: &Step,
    person: Option<&Person>,
    event: &NewEvent,
    templates: &Texts,
    values: &Value,
) -> Result<Said, String> {
    let channel = step.delivery.channel;
    let Some(name) = &step.delivery.template else {
        let text = event.name.to_string();
        return Ok(Said { filled: Filled { subject: None, text, html: None }, template: None });
    };
    let Some(variants) = templates.get(&(name.clone(), channel)) else {
        return Err(format!("cannot be rendered: the template `{name}` for {channel} is gone"));
    };
    let in_payload = event.payload.get("locale").and_then(|value| value.as_str());
    let variant = variants.of(person.and_then(|person| person.recipient.locale()).or(in_payload));
    let filled = variant.content.fill(|| values.clone());
    let filled = filled.map_err(|why| format!("does not fill the template `{name}` for {channel}: {why}"))?;
    let (locale, version) = (variant.locale.clone(), variant.version);
    Ok(Said { filled, template: Some(DraftTemplate { name: name.clone(), locale, version }) })
}
