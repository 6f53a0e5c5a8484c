//! A spike of events that are in a broker when the service starts, compared with the same events by HTTP.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fanfare::clock::Clock;
use fanfare::db::types::MessageId;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::{Api, text_at};
use crate::args::{EventsAs, Kind};
use crate::creations::{BATCH_CONNECTIONS, CONNECTIONS};
use crate::events::{self, POSTED};
use crate::kafka::Kafka;
use crate::load::Load;
use crate::machine::peak_memory;
use crate::mailings::agree;
use crate::nats::Nats;
use crate::process::{Sandbox, Service};
use crate::sources::{EVENTS_OF_BATCH, Source, SourceSpike, SourceSpikes};
use crate::spent::Spent;
use crate::spike::all_sent;
use crate::wire::{PLACE, Request};
use crate::{Bench, Failure, Result};

/// The time between two urgent notifications.
const URGENT_EVERY: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(50);
/// Events without progress for this long are lost.
const STUCK: Duration = Duration::from_secs(60);

/// The program at the other end of the source.
enum Peer {
    /// The benchmark itself, which posts events.
    Bench,
    Nats(Nats),
    Kafka(Kafka),
}

/// An urgent notification and the time of its POST, in microseconds since the epoch.
struct Urgent {
    id: MessageId,
    from: i64,
}

/// Measures every source once, in a different order each round.
pub async fn measure(bench: &Bench, kind: Kind, round: usize, spikes: &mut SourceSpikes) -> Result {
    let sources = Source::ALL;
    for &source in sources.iter().cycle().skip(round % sources.len()).take(sources.len()) {
        bench.says(&format!("round {round}: events by {}, {}", source.name(), kind.name()));
        read(bench, kind, source, spikes.entry((kind, source)).or_default()).await?;
    }
    Ok(())
}

async fn read(bench: &Bench, kind: Kind, source: Source, spike: &mut SourceSpike) -> Result {
    let database = bench.empty_database(kind)?;
    let url = database.url();
    let sandbox = Sandbox::start_logging(bench.directory(), bench.args.provider(Duration::ZERO)).await?;
    let peer = Peer::start(bench, source).await?;
    let mut env = vec![("EMAIL_PROVIDER_URL", sandbox.base.as_str()), ("RATE_LIMIT_PER_CHANNEL", "1000000")];
    env.extend(peer.setting());
    let start = || Service::start_with(bench.directory(), &url, &sandbox.base, &env);

    let service = start().await?;
    events::route(&service).await?;
    peer.fill(service).await?;

    let started = now();
    let service = start().await?;
    let pid = service.process.pid();
    let spent = || {
        let (spent, broker) =
            (Spent::read(bench, pid, Some(&database), sandbox.process.pid())?, peer.cpu(bench)?);
        Ok::<_, Failure>((spent.and(broker.unwrap_or_default()), broker))
    };
    let before = spent()?;
    let (stored, urgent) = beside_urgent(&service, source).await?;
    let messages = POSTED + urgent.len() as u64;
    all_sent(&service, messages).await?;
    let sent = now();
    let after = spent()?;
    spike.peak_memory.0.push(peak_memory(pid)?);
    agree(&sandbox.stats().await?, messages)?;
    service.stop().await?;
    events::are_on_record(&database, EventsAs::Events, urgent.len() as u64)?;

    note_cpu(spike, before, after)?;
    let first = database.time("SELECT min(received_at) FROM event")?;
    let seconds = |from: i64, to: i64| (to - from) as f64 / 1e6;
    spike.per_second.0.push(POSTED as f64 / seconds(first, stored));
    spike.arrived.0.push(seconds(first, sent));
    if source.is_broker() {
        spike.first.0.push(seconds(started, first) * 1e3);
    }
    // urgent notifications outside this range were posted before the first event or after the last
    let beside = urgent.iter().filter(|urgent| (first..=stored).contains(&urgent.from));
    spike.urgent.extend(lateness(&sandbox, beside)?);
    Ok(())
}

/// Records the CPU usage, including the broker's.
fn note_cpu(
    spike: &mut SourceSpike,
    (before, broker_before): (Spent, Option<f64>),
    (after, broker_after): (Spent, Option<f64>),
) -> Result {
    let a_hundred_thousand = |seconds: f64| seconds * 100_000.0 / POSTED as f64;
    spike.cpu_service.0.push(a_hundred_thousand(after.sender - before.sender));
    if let (Some(before), Some(after)) = (before.database, after.database) {
        spike.cpu_database.0.push(a_hundred_thousand(after - before));
    }
    if let (Some(before), Some(after)) = (broker_before, broker_after) {
        spike.cpu_broker.0.push(a_hundred_thousand(after - before));
    }
    spike.cpu_others.0.push(after.others_since(&before)?);
    Ok(())
}

/// Waits for the end of the spike while posting urgent notifications. Returns the time at which the events were stored,
/// and the notifications.
async fn beside_urgent(service: &Service, source: Source) -> Result<(i64, Vec<Urgent>)> {
    let (done, is_done) = watch::channel(false);
    let load = load(source, service.api.address());
    let spike = async {
        let post = async {
            match load {
                Some(load) => load.post().await.map(drop).map_err(Failure::from),
                None => Ok(()),
            }
        };
        let ((), ()) = tokio::try_join!(post, all_stored(&service.api))?;
        let stored = now();
        done.send_replace(true);
        Ok(stored)
    };
    tokio::try_join!(spike, post_urgent(&service.api, is_done))
}

/// Waits until the service has counted all events as stored.
async fn all_stored(api: &Api) -> Result {
    let (mut stored, mut moved_at) = (0.0, Instant::now());
    while stored < POSTED as f64 {
        tokio::time::sleep(LOOK).await;
        let now = api.events().await?;
        if now > stored {
            (stored, moved_at) = (now, Instant::now());
        }
        if moved_at.elapsed() > STUCK {
            return Err(format!("only {stored} of {POSTED} events were stored").into());
        }
    }
    Ok(())
}

/// Posts urgent notifications at a steady rate, without waiting for earlier responses.
async fn post_urgent(api: &Api, is_done: watch::Receiver<bool>) -> Result<Vec<Urgent>> {
    let mut every = tokio::time::interval(URGENT_EVERY);
    let mut posts = JoinSet::new();
    while !*is_done.borrow() {
        every.tick().await;
        let (api, number) = (api.clone(), posts.len());
        posts.spawn(async move {
            let one = json!({
                "channel": "email",
                "recipient": format!("urgent{number}@example.com"),
                "subject": "Your code",
                "content": "123456",
                "priority": "high",
            });
            let from = now();
            let made = api.post("/notifications", &one).await?;
            Ok::<_, Failure>(Urgent { id: text_at(&made, "id")?.parse()?, from })
        });
    }
    posts.join_all().await.into_iter().collect()
}

/// Returns the milliseconds from each POST to the arrival at the provider.
fn lateness<'a>(sandbox: &Sandbox, urgent: impl Iterator<Item = &'a Urgent>) -> Result<Vec<f64>> {
    let receipts = sandbox.receipts()?.into_iter();
    let receipts: HashMap<MessageId, i64> =
        receipts.filter_map(|receipt| Some((receipt.id.parse().ok()?, receipt.at_us))).collect();
    let late = |urgent: &Urgent| {
        let at = receipts.get(&urgent.id).ok_or("the provider's log lacks an urgent notification")?;
        Ok((at - urgent.from) as f64 / 1000.0)
    };
    urgent.map(late).collect()
}

/// Returns the load to post, or `None` for a broker, from which the service fetches.
fn load(source: Source, address: &str) -> Option<Load> {
    let one = events::body(PLACE);
    let (connections, requests, request) = match source {
        Source::Posts => (CONNECTIONS, POSTED, Request::post("/api/v1/events", "", &one)),
        Source::Batches => {
            let all = vec![one; EVENTS_OF_BATCH as usize].join(",");
            let body = format!(r#"{{"events":[{all}]}}"#);
            let request = Request::post("/api/v1/events/batch", "", &body);
            (BATCH_CONNECTIONS, POSTED / EVENTS_OF_BATCH, request)
        }
        Source::Nats | Source::Kafka => return None,
    };
    Some(Load { address: address.to_owned(), connections, requests, request, expects: 202 })
}

fn now() -> i64 {
    Clock::System.now().micros()
}

impl Peer {
    async fn start(bench: &Bench, source: Source) -> Result<Self> {
        Ok(match source {
            Source::Posts | Source::Batches => Self::Bench,
            Source::Nats => Self::Nats(Nats::start(bench.directory()).await?),
            Source::Kafka => Self::Kafka(Kafka::start(bench.directory()).await?),
        })
    }

    /// Returns the setting of a service that reads from this peer.
    fn setting(&self) -> Option<(&str, &str)> {
        match self {
            Self::Bench => None,
            Self::Nats(nats) => Some(("NATS_URL", &nats.url)),
            Self::Kafka(kafka) => Some(("KAFKA_BROKERS", &kafka.address)),
        }
    }

    /// Publishes the spike after stopping the service, which may first have to create the stream or topic.
    async fn fill(&self, service: Service) -> Result {
        if let Self::Nats(nats) = self {
            nats.is_prepared().await?;
        }
        service.stop().await?;
        let bodies = (0..POSTED).map(|number| events::body(&format!("{number:07}")));
        match self {
            Self::Bench => Ok(()),
            Self::Nats(nats) => nats.publish(bodies).await,
            Self::Kafka(kafka) => kafka.publish(bodies).await,
        }
    }

    /// Returns the seconds of CPU that the broker has used so far.
    fn cpu(&self, bench: &Bench) -> Result<Option<f64>> {
        let process = match self {
            Self::Bench => return Ok(None),
            Self::Nats(nats) => &nats.process,
            Self::Kafka(kafka) => &kafka.process,
        };
        bench.cpu.of(process.pid()).map(Some)
    }
}
