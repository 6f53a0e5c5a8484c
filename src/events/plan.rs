//! Which messages an event causes: its routes' deliveries, each for somebody, rendered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::model::{Draft, NewEvent, Plan, Skipped};
use super::target::Target;
use crate::clients::reach;
use crate::db::types::{ClientId, EventId, Timestamp};
use crate::error::{Complaints, Result};
use crate::kinds::ChannelKind;
use crate::mailings::recipient::Recipient;
use crate::notifications::model::{Raw, TemplateUsed};
use crate::notifications::repo::Addresses;
use crate::routes::model::{Compiled, PAYLOAD, Step, USER};
use crate::templates::language::Value;
use crate::templates::{Data, Filled, UNSUBSCRIBE_URL, UnsubscribeUrl, Variants, WithLink};

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

/// A delivery that an event asks for, with its route.
pub type Asked<'r> = (&'r Compiled, &'r Step);

/// The place of a delivery among all routes.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    route: usize,
    step: usize,
}

impl Place {
    /// The delivery at this place.
    pub fn of(self, routes: &[Compiled]) -> Option<Asked<'_>> {
        let route = routes.get(self.route)?;
        Some((route, route.steps.get(self.step)?))
    }
}

/// An event with what conditions and texts may say of it.
pub struct Facts<'e> {
    event: &'e NewEvent,
    now: Timestamp,
    /// Its name, its id and its time.
    about: Map<String, Json>,
}

impl<'e> Facts<'e> {
    /// Facts about an event that is taken under this id at this time.
    pub fn new(event: &'e NewEvent, (id, now): (EventId, Timestamp)) -> Self {
        let id = event.key.clone().unwrap_or_else(|| id.to_string());
        let occurred_at = event.occurred_at.unwrap_or(now).to_string();
        let about = [("name", event.name.as_str()), ("id", &id), ("occurred_at", &occurred_at)];
        let about = about.map(|(name, text)| (name.to_owned(), Json::from(text)));
        Self { event, now, about: about.into_iter().collect() }
    }

    /// A webhook's program is told all of the event.
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

/// The data of texts: the event and its payload by their names, then the payload's fields, then the client as `client`, and
/// its fields and attributes.
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

/// The routes that send something for an event, each with its place among all.
pub fn enabled<'r>(event: &NewEvent, routes: &'r [Compiled]) -> impl Iterator<Item = (usize, &'r Compiled)> {
    let is_for = |(_, route): &(usize, &Compiled)| route.route.enabled && route.knows(&event.name);
    routes.iter().enumerate().filter(is_for)
}

/// Divides the deliveries that an event asks for into those whose conditions hold and those that are skipped, with the
/// reason.
pub fn asked(facts: &Facts<'_>, routes: &[Compiled]) -> (Vec<Place>, Vec<Skipped>) {
    let (mut asked, mut left_out) = (Vec::new(), Vec::new());
    for (place, route) in enabled(facts.event, routes) {
        for (number, step) in route.steps.iter().enumerate() {
            match step.condition.as_ref().map_or(Ok(()), |condition| condition.check(facts)) {
                Ok(()) => asked.push(Place { route: place, step: number }),
                Err(why) => {
                    left_out.push(skipped(route, step, format!("the condition does not hold: {why}")))
                }
            }
        }
    }
    (asked, left_out)
}

fn skipped(route: &Compiled, step: &Step, reason: String) -> Skipped {
    Skipped {
        route: route.route.event.to_string(),
        channel: step.delivery.channel,
        target: step.delivery.target.clone(),
        reason,
    }
}

/// Whom these deliveries are for, by the names of their targets.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) that names each target that the event should name and does not.
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
    /// Makes the links to unsubscribe, if recipients can reach the service.
    pub unsubscribe_url: Option<&'a UnsubscribeUrl>,
}

/// The messages of an event.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) when a template asks for what neither the payload nor the client has.
pub fn plan(facts: &Facts<'_>, asked: &[Asked<'_>], known: &Known<'_>) -> Result<Plan> {
    let mut wrong = Complaints::default();
    let mut plan = Plan::default();
    let mut seen = HashSet::new();
    // by client: of two deliveries to one target, the one to a fixed address is nobody's
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
            skip("another route sends the same to the same address".into());
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
        let Said { filled: Filled { subject, text, html }, template } = said;
        let starts = facts.now.plus(step.delay);
        plan.notifications.push(Draft {
            route: route.route.event.to_string(),
            channel,
            target: name.to_owned(),
            recipient,
            client_id,
            template,
            subject,
            content: text,
            html,
            data: (channel == ChannelKind::Webhook).then(|| facts.data()).transpose()?,
            priority: delivery.priority,
            group,
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

fn address(step: &Step, person: Option<&Person>, target: Option<&Target>) -> Result<String, String> {
    let channel = step.delivery.channel;
    if let Some(fixed) = &step.delivery.recipient {
        return Ok(fixed.clone());
    }
    let reached = person.and_then(|person| person.addresses.reach(person.id).on(channel));
    let own = || target.and_then(|target| target.address(channel));
    reached.or_else(own).ok_or_else(|| match person {
        Some(_) => reach::lacks(channel),
        None => format!("there is no such client, and no address that `{channel}` needs"),
    })
}

struct Said {
    filled: Filled,
    template: Option<TemplateUsed>,
}

fn say(
    step: &Step,
    person: Option<&Person>,
    templates: &Texts,
    (filling, link): (&EventData<'_>, &dyn Fn() -> Option<String>),
) -> Result<Said, String> {
    let (channel, event) = (step.delivery.channel, filling.facts.event);
    let Some(name) = &step.delivery.template else {
        let text = event.name.to_string();
        return Ok(Said { filled: Filled { subject: None, text, html: None }, template: None });
    };
    let Some(variants) = templates.get(&(name.clone(), channel)) else {
        return Err(format!("cannot be rendered: the template `{name}` for {channel} is gone"));
    };
    let in_payload = event.payload.get("locale").and_then(|value| value.as_str());
    let variant = variants.of(person.and_then(|person| person.recipient.locale()).or(in_payload));
    let is_given = event.payload.contains_key(UNSUBSCRIBE_URL);
    let data = if is_given { WithLink::after(filling, link) } else { WithLink::before(filling, link) };
    let filled = variant.content.fill(&data);
    let filled = filled.map_err(|why| format!("does not fill the template `{name}` for {channel}: {why}"))?;
    Ok(Said { filled, template: Some(TemplateUsed::new(name, variant)) })
}
