//! The creation of notifications, one by one and in batches, compared with the same requests as dry runs.

use std::collections::HashSet;
use std::time::Duration;

use fanfare::clock::Clock;

use crate::args::Kind;
use crate::creations::{BATCH, BATCH_CONNECTIONS, CONNECTIONS, Creations, Form};
use crate::database::Database;
use crate::load::{Answers, Load};
use crate::process::{Sandbox, Service};
use crate::spent::Spent;
use crate::wire::{PLACE, Request};
use crate::{Bench, Result};

/// Requests of one notification, in each form.
const SINGLES: u64 = 20_000;
/// Requests of a batch, in each form.
const BATCHES: u64 = 100;
/// The time until the notifications are due, so that only their creation is measured.
const LATER: Duration = Duration::from_hours(12);

/// Measures every form once, in a different order each round.
pub async fn measure(bench: &Bench, kind: Kind, round: usize, creations: &mut Creations) -> Result {
    for forms in [Form::SINGLES.as_slice(), Form::BATCHES.as_slice()] {
        let database = bench.empty_database(kind)?;
        let provider = bench.args.provider(Duration::ZERO);
        let sandbox = Sandbox::start(bench.directory(), provider).await?;
        let service =
            Service::start(bench.directory(), &database.url(), &sandbox.base, provider.in_flight).await?;
        let mut accepted = Accepted::default();
        for &form in forms.iter().cycle().skip(round % forms.len()).take(forms.len()) {
            let load = load(form, service.api.address());
            let posted = load.requests * if form.is_batch() { BATCH as u64 } else { 1 };
            let spent = || Spent::read(bench, service.process.pid(), Some(&database), sandbox.process.pid());
            let before = spent()?;
            let answers = load.post().await?;
            let after = spent()?;
            let creation = creations.entry((kind, form)).or_default();
            let a_hundred_thousand = |seconds: f64| seconds * 100_000.0 / posted as f64;
            creation.cpu_service.0.push(a_hundred_thousand(after.sender - before.sender));
            creation.cpu_bench.0.push(a_hundred_thousand(after.bench - before.bench));
            if let (Some(before), Some(after)) = (before.database, after.database) {
                creation.cpu_database.0.push(a_hundred_thousand(after - before));
            }
            creation.cpu_others.0.push(after.others_since(&before)?);
            creation.per_second.0.push(posted as f64 / answers.took);
            creation.request.extend(&answers.each);
            accepted.note(form, &answers, posted)?;
        }
        service.stop().await?;
        accepted.agrees(&database)?;
    }
    Ok(())
}

/// The numbers that the service confirmed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Accepted {
    notifications: u64,
    batches: u64,
    keys: u64,
}

impl Accepted {
    fn note(&mut self, form: Form, answers: &Answers, posted: u64) -> Result {
        if answers.refused > 0 {
            return Err(format!("{} requests were refused despite a free queue", answers.refused).into());
        }
        if form.rehearsal().is_none() {
            return Ok(());
        }
        let made = answers.made.iter().collect::<HashSet<_>>().len() as u64;
        let requests = answers.each.len() as u64;
        if made != requests {
            return Err(format!("{requests} requests returned {made} ids").into());
        }
        self.notifications += posted;
        self.batches += if form.is_batch() { requests } else { 0 };
        self.keys += if form == Form::Keyed { requests } else { 0 };
        Ok(())
    }

    /// Checks that the database contains exactly these notifications, all of them waiting for their time.
    fn agrees(&self, database: &Database) -> Result {
        let found = Self {
            notifications: database.count("SELECT count(*) FROM notification")?,
            batches: database.count("SELECT count(*) FROM batch")?,
            keys: database.count("SELECT count(*) FROM idempotency_key WHERE status = 201")?,
        };
        let waiting = database.count(
            "SELECT count(*) FROM notification JOIN message ON message.id = notification.message_id \
             JOIN due ON due.message_id = message.id WHERE attempts = 0 AND finished_at IS NULL",
        )?;
        let in_batches = database.count("SELECT coalesce(sum(total), 0) FROM batch")?;
        let posted_in_batches = self.batches * BATCH as u64;
        if found != *self || waiting != self.notifications || in_batches != posted_in_batches {
            return Err(format!(
                "accepted: {self:?}; in the database: {found:?}, {waiting} of them waiting, {in_batches} in batches"
            )
            .into());
        }
        Ok(())
    }
}

fn load(form: Form, address: &str) -> Load {
    let later = Clock::System.now().plus(LATER);
    let one = format!(
        r#"{{"channel":"sms","recipient":"+7903{PLACE}","content":"Your order has shipped and arrives tomorrow.","scheduled_at":"{later}"}}"#
    );
    let batch = || format!(r#"{{"notifications":[{}]}}"#, vec![one.as_str(); BATCH].join(","));
    let (path, batches) = ("/api/v1/notifications", "/api/v1/notifications/batch");
    let request = match form {
        Form::Rehearsed => Request::post(&format!("{path}?dry_run=true"), "", &one),
        Form::Single => Request::post(path, "", &one),
        Form::Keyed => Request::post(path, &format!("idempotency-key: order-{PLACE}\r\n"), &one),
        Form::RehearsedBatch => Request::post(&format!("{batches}?dry_run=true"), "", &batch()),
        Form::Batch => Request::post(batches, "", &batch()),
    };
    Load {
        address: address.to_owned(),
        connections: if form.is_batch() { BATCH_CONNECTIONS } else { CONNECTIONS },
        requests: if form.is_batch() { BATCHES } else { SINGLES },
        request,
        expects: if form.rehearsal().is_some() { 201 } else { 200 },
    }
}
