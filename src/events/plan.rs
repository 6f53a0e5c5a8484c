//! Plans the messages that an event causes: renders the deliveries of its routes for their targets.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::model::{EventPlan, NewEvent, PlannedMessage, SkippedMessage};
use super::target::Target;
use crate::clients::reach;
use crate::db::types::{ClientId, EventId, Timestamp};
use crate::error::{Complaints, Result};
use crate::kinds::ChannelKind;
use crate::mailings::recipient::Recipient;
use crate::notifications::model::{Raw, TemplateUsed};
use crate::notifications::repo::RecipientAddresses;
use crate::routes::model::{CompiledDelivery, CompiledRoute, PAYLOAD, USER};
use crate::templates::language::Value;
use crate::templates::{Data, Filled, UNSUBSCRIBE_URL, UnsubscribeUrl, Variants, WithLink};

/// A client that is a target of an event.
#[derive(Debug, Clone)]
pub struct Person {
    /// The client's id.
    pub id: ClientId,
    /// The client's addresses.
    pub addresses: RecipientAddresses,
    /// The values for the placeholders.
    pub recipient: Recipient,
}

/// The templates of an event's deliveries.
pub type TemplateMap = HashMap<(String, ChannelKind), Arc<Variants>>;

/// Checks that messages can be sent to an address of a channel, and returns the reason if they cannot.
pub type Admit<'a> = &'a (dyn Fn(ChannelKind, &str) -> std::result::Result<(), String> + Sync);

/// A delivery for an event, with its route.
pub type MatchedStep<'r> = (&'r CompiledRoute, &'r CompiledDelivery);

/// The position of a delivery in the list of routes.
#[derive(Debug, Clone, Copy)]
pub struct StepPosition {
    route: usize,
    step: usize,
}

impl StepPosition {
    /// Returns the delivery at this position.
    pub fn of(self, routes: &[CompiledRoute]) -> Option<MatchedStep<'_>> {
        let route = routes.get(self.route)?;
        Some((route, route.steps.get(self.step)?))
    }
}

/// An event with the data that conditions and texts can use.
pub struct Facts<'e> {
    event: &'e NewEvent,
    now: Timestamp,
    /// The event's name, its id and its time.
    about: Map<String, Json>,
}

impl<'e> Facts<'e> {
    /// Creates the data of an event that is accepted under this id at this time.
    pub fn new(event: &'e NewEvent, (id, now): (EventId, Timestamp)) -> Self {
        let id = event.key.clone().unwrap_or_else(|| id.to_string());
        let occurred_at = event.occurred_at.unwrap_or(now).to_string();
        let about = [("name", event.name.as_str()), ("id", &id), ("occurred_at", &occurred_at)];
        let about = about.map(|(name, text)| (name.to_owned(), Json::from(text)));
        Self { event, now, about: about.into_iter().collect() }
    }

    /// Returns the `data` of a webhook's message, which has the whole event.
    fn data(&self) -> Result<Raw> {
        Raw::read(json!({ "event": self.about, "payload": self.event.payload }).to_string())
    }
}

/// The data of conditions: the event and its payload.
impl Data for Facts<'_> {
    fn get(&self, name: &str) -> Value<'_> {
        match name {
            "event" => Value::Map(&self.about),
            "payload" => Value::Map(&self.event.payload),
            _ => Value::Missing,
        }
    }
}

/// The data of texts. A name is looked up in this order: `event` and `payload`, the payload's fields, `client`, the
/// client's fields and attributes.
struct EventData<'f> {
    facts: &'f Facts<'f>,
    client: Option<Map<String, Json>>,
}

impl Data for EventData<'_> {
    fn get(&self, name: &str) -> Value<'_> {
        let of_event = self.facts.get(name);
        if !of_event.is_missing() {
            return of_event;
        }
        let in_payload = Value::from(self.facts.event.payload.get(name));
        match &self.client {
            Some(client) if in_payload.is_missing() && name == "client" => Value::Map(client),
            Some(client) if in_payload.is_missing() => client.get(name).into(),
            _ => in_payload,
        }
    }
}

/// Returns the enabled routes for an event, each with its index.
pub fn enabled<'r>(
    event: &NewEvent,
    routes: &'r [CompiledRoute],
) -> impl Iterator<Item = (usize, &'r CompiledRoute)> {
    let is_for = |(_, route): &(usize, &CompiledRoute)| route.route.enabled && route.knows(&event.name);
    routes.iter().enumerate().filter(is_for)
}

/// Evaluates the conditions of the deliveries for an event. Returns the deliveries whose conditions are met, and the
/// skipped ones with the reason.
pub fn asked(facts: &Facts<'_>, routes: &[CompiledRoute]) -> (Vec<StepPosition>, Vec<SkippedMessage>) {
    let (mut asked, mut left_out) = (Vec::new(), Vec::new());
    for (place, route) in enabled(facts.event, routes) {
        for (number, step) in route.steps.iter().enumerate() {
            match step.condition.as_ref().map_or(Ok(()), |condition| condition.check(facts)) {
                Ok(()) => asked.push(StepPosition { route: place, step: number }),
                Err(why) => left_out.push(skipped(route, step, format!("the condition is not met: {why}"))),
            }
        }
    }
    (asked, left_out)
}

fn skipped(route: &CompiledRoute, step: &CompiledDelivery, reason: String) -> SkippedMessage {
    SkippedMessage {
        route: route.route.event.to_string(),
        channel: step.delivery.channel,
        target: step.delivery.target.clone(),
        reason,
    }
}

/// Returns the targets of the deliveries, by name.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) with each target that the event lacks.
pub fn targets(event: &NewEvent, asked: &[MatchedStep<'_>]) -> Result<BTreeMap<String, Target>> {
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
                wrong.add(field, format!("is required by the route {}", route.route.event));
            }
        }
    }
    wrong.finish().map(|()| found)
}

/// Returns a target that a field of the payload names: an identifier of a client, or an address.
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

/// The data from which an event's messages are rendered.
pub struct RenderInputs<'a> {
    /// The targets, by name.
    pub targets: &'a BTreeMap<String, Target>,
    /// The clients among the targets, by the targets' names.
    pub people: &'a HashMap<String, Person>,
    /// The templates.
    pub templates: &'a TemplateMap,
    /// Checks that messages can be sent to an address.
    pub admit: Admit<'a>,
    /// Creates unsubscribe links, if recipients can reach the service.
    pub unsubscribe_url: Option<&'a UnsubscribeUrl>,
}

/// Renders the messages of an event.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) if a template needs a value that neither the payload nor the client
/// has.
pub fn plan(facts: &Facts<'_>, asked: &[MatchedStep<'_>], known: &RenderInputs<'_>) -> Result<EventPlan> {
    let mut wrong = Complaints::default();
    let mut plan = EventPlan::default();
    let mut seen = HashSet::new();
    // by client: of two deliveries to one target, the one to a fixed address belongs to no client
    let mut fillings: HashMap<Option<ClientId>, EventData<'_>> = HashMap::new();
    for (route, step) in asked {
        let delivery = &step.delivery;
        let (channel, name) = (delivery.channel, delivery.target.as_str());
        let mut skip = |reason: String| plan.skipped.push(skipped(route, step, reason));
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
            skip("another route sends the same message to the same address".into());
            continue;
        }
        let client_id = person.map(|person| person.id);
        let client = || person.map(|person| person.recipient.fields());
        let filling = fillings.entry(client_id).or_insert_with(|| EventData { facts, client: client() });
        let group = group(route, facts.event);
        let link = || known.unsubscribe_url?(channel, &recipient, Some(&group));
        let said = match say(step, person, known.templates, (filling, &link)) {
            Ok(said) => said,
            Err(reason) => {
                wrong.add("payload", reason);
                continue;
            }
        };
        let FilledTexts { filled: Filled { subject, text, html }, template } = said;
        let starts = facts.now.plus(step.delay);
        plan.notifications.push(PlannedMessage {
            route: route.route.event.to_string(),
            channel,
            target: name.to_owned(),
            recipient,
            client_id,
            template,
            subject,
            content: text,
            html,
            data: channel.spec().carries_events.then(|| facts.data()).transpose()?,
            priority: delivery.priority,
            group,
            transactional: route.route.transactional,
            scheduled_at: (!step.delay.is_zero()).then_some(starts),
            expires_at: step.expires_after.map(|length| starts.plus(length)),
        });
    }
    wrong.finish().map(|()| plan)
}

/// Returns the group that clients may opt out of: the route's group, or the first word of the event's name.
fn group(route: &CompiledRoute, event: &NewEvent) -> String {
    let own = route.route.group.clone();
    own.unwrap_or_else(|| event.name.first_word().to_lowercase().chars().take(64).collect())
}

fn address(
    step: &CompiledDelivery,
    person: Option<&Person>,
    target: Option<&Target>,
) -> Result<String, String> {
    let channel = step.delivery.channel;
    if let Some(fixed) = &step.delivery.recipient {
        return Ok(fixed.clone());
    }
    let reached = person.and_then(|person| person.addresses.reach(person.id).on(channel));
    let own = || target.and_then(|target| target.address(channel));
    reached.or_else(own).ok_or_else(|| match person {
        Some(_) => reach::lacks(channel),
        None => format!("the client does not exist, and the event has no address for `{channel}`"),
    })
}

struct FilledTexts {
    filled: Filled,
    template: Option<TemplateUsed>,
}

fn say(
    step: &CompiledDelivery,
    person: Option<&Person>,
    templates: &TemplateMap,
    (filling, link): (&EventData<'_>, &dyn Fn() -> Option<String>),
) -> Result<FilledTexts, String> {
    let (channel, event) = (step.delivery.channel, filling.facts.event);
    let Some(name) = &step.delivery.template else {
        let text = event.name.to_string();
        return Ok(FilledTexts { filled: Filled { subject: None, text, html: None }, template: None });
    };
    let Some(variants) = templates.get(&(name.clone(), channel)) else {
        return Err(format!("cannot be rendered: the template `{name}` for {channel} does not exist"));
    };
    let in_payload = event.payload.get("locale").and_then(|value| value.as_str());
    let variant = variants.of(person.and_then(|person| person.recipient.locale()).or(in_payload));
    let is_given = event.payload.contains_key(UNSUBSCRIBE_URL);
    let data = if is_given { WithLink::after(filling, link) } else { WithLink::before(filling, link) };
    let filled = variant.content.fill(&data);
    let filled = filled.map_err(|why| format!("does not fill the template `{name}` for {channel}: {why}"))?;
    Ok(FilledTexts { filled, template: Some(TemplateUsed::new(name, variant)) })
}
