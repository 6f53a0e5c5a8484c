//! A spike of events: far more at once than can be delivered in that time.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::args::{EventsAs, Kind};
use crate::creations::{CONNECTIONS, Events};
use crate::database::Database;
use crate::load::Load;
use crate::machine::peak_memory;
use crate::mailings::agree;
use crate::process::{Sandbox, Service};
use crate::spike::all_sent;
use crate::wire::{PLACE, Request};
use crate::{Bench, Result};

/// The number of events.
pub const POSTED: u64 = 50_000;

pub async fn measure(bench: &Bench, kind: Kind, events: &mut Events) -> Result {
    let database = bench.empty_database(kind)?;
    let sandbox = Sandbox::start(bench.directory(), bench.args.provider(Duration::ZERO)).await?;
    // the default number of workers: messages posted faster than they send wait on disk
    let env = [("EMAIL_PROVIDER_URL", sandbox.base.as_str()), ("RATE_LIMIT_PER_CHANNEL", "1000000")];
    let service = Service::start_with(bench.directory(), &database.url(), &sandbox.base, &env).await?;
    if bench.args.events_as == EventsAs::Events {
        route(&service).await?;
    }
    let load = Load {
        address: service.api.address().to_owned(),
        connections: CONNECTIONS,
        requests: POSTED,
        request: request(bench.args.events_as),
        expects: if bench.args.events_as == EventsAs::Events { 202 } else { 201 },
    };
    let posted = Instant::now();
    let answers = load.post().await?;
    // fails if a message does not arrive
    all_sent(&service, POSTED).await?;
    events.arrived.0.push(posted.elapsed().as_secs_f64());
    let provider = sandbox.stats().await?;
    agree(&provider, POSTED)?;
    events.lost.0.push(POSTED as f64 - provider.distinct as f64);
    events.peak_memory.0.push(peak_memory(service.process.pid())?);
    service.stop().await?;
    are_on_record(&database, bench.args.events_as, 0)?;

    events.accepted.0.push(answers.took);
    events.per_second.0.push(POSTED as f64 / answers.took);
    events.request.extend(answers.each);
    events.refused.0.push(answers.refused as f64);
    Ok(())
}

/// Creates the route of the event: one e-mail to the address in its payload.
pub async fn route(service: &Service) -> Result {
    let template = json!({
        "name": "user.registered",
        "channel": "email",
        "subject": "Welcome",
        "text": "Welcome, {{ name }}!",
    });
    service.api.post("/templates", &template).await?;
    let delivery = json!({"channel": "email", "target": "user", "template": "user.registered"});
    service.api.post("/routes", &json!({"event": "user.registered", "deliveries": [delivery]})).await?;
    Ok(())
}

/// Returns an event of the user with this number.
pub fn body(number: &str) -> String {
    format!(
        r#"{{"event":"user.registered","user_target":"u{number}","payload":{{"email":"u{number}@example.com","name":"U"}}}}"#
    )
}

fn request(posted_as: EventsAs) -> Request {
    match posted_as {
        EventsAs::Events => Request::post("/api/v1/events", "", &body(PLACE)),
        EventsAs::Notifications => {
            let body = format!(
                r#"{{"channel":"email","recipient":"u{PLACE}@example.com","subject":"Welcome","content":"Welcome, U!"}}"#
            );
            Request::post("/api/v1/notifications", "", &body)
        }
    }
}

/// Checks that each event is stored with one notification, that `others` more notifications exist, and that no work is
/// left.
pub fn are_on_record(database: &Database, posted_as: EventsAs, others: u64) -> Result {
    let events = database.count("SELECT count(*) FROM event")?;
    let caused = database.count("SELECT count(DISTINCT event_id) FROM notification")?;
    let notifications = database.count(
        "SELECT count(*) FROM notification JOIN message ON message.id = notification.message_id \
         WHERE finished_at IS NOT NULL",
    )?;
    let left = database.count("SELECT count(*) FROM due")? + database.count("SELECT count(*) FROM page")?;
    let expected = if posted_as == EventsAs::Events { POSTED } else { 0 };
    if (events, caused, notifications, left) != (expected, expected, POSTED + others, 0) {
        return Err(format!(
            "{POSTED} events and {others} notifications were accepted; the database has {events} events, {notifications} \
             final notifications, which {caused} events caused, and {left} rows of unfinished work"
        )
        .into());
    }
    Ok(())
}
