//! Reads the subject: fetch, take, acknowledge.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{RetentionPolicy, StorageType};
use async_nats::jetstream::{AckKind, Message, context::ContextBuilder, stream};

use super::link::Link;
use super::pull::{ANSWER, Pull};
use super::{Incoming, Intake, LARGEST_EVENT, Settings, Taken};
use crate::error::{Error, Source};
use crate::lifecycle::Shutdown;
use crate::metrics::Metrics;

/// A second event with the same `Nats-Msg-Id` is dropped by the broker for so long, in a stream made here.
const DUPLICATES: Duration = Duration::from_secs(10 * 60);
/// Events that were delivered and not acknowledged, of all nodes. Those that wait for another try are among them, and
/// must not keep the others out.
const MOST_PENDING: i64 = 50_000;
/// How long one request waits for an event.
const LONG_POLL: Duration = Duration::from_secs(20);
/// Between tries that failed: it doubles from the first to the longest.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(10);
/// The longest delay before an event that was refused is delivered again.
const LONGEST_DELAY: Duration = Duration::from_secs(5 * 60);

/// Reads the events of one subject into an [`Intake`].
pub struct Consumer {
    settings: Settings,
    intake: Arc<dyn Intake>,
    metrics: Metrics,
}

/// A message with what is to be taken of it.
struct Delivered {
    message: Message,
    event: Incoming,
    /// Its place in the stream: what a log may name.
    sequence: u64,
}

impl Consumer {
    /// One that does nothing before [`Consumer::run`].
    pub fn new(settings: Settings, intake: Arc<dyn Intake>, metrics: Metrics) -> Self {
        Self { settings, intake, metrics }
    }

    /// Reads until the shutdown, whether the broker is there or not. What was fetched by then is finished.
    pub async fn run(self, shutdown: Shutdown) {
        let link = tokio::select! {
            () = shutdown.wait() => return,
            link = Link::open(&self.settings.access, &self.metrics) => link,
        };
        let (mut source, mut rest, mut problem) = (None, FIRST_REST, None);
        while !shutdown.is_fired() {
            let Err(error) = self.step(&link, &mut source, &shutdown).await else {
                (rest, problem) = (FIRST_REST, None);
                continue;
            };
            // the stream or the consumer may be gone: look again
            source = None;
            let reason = error.to_string();
            if problem.as_ref() != Some(&reason) {
                tracing::warn!(
                    reason,
                    stream = self.settings.stream,
                    "the broker's stream cannot be read; trying again"
                );
                problem = Some(reason);
            }
            tokio::select! {
                () = shutdown.wait() => {}
                () = tokio::time::sleep(rest) => rest = (rest * 2).min(LONGEST_REST),
            }
        }
        link.close().await;
    }

    /// Fetches and takes what is there; waits for it a while when there is nothing.
    async fn step(&self, link: &Link, source: &mut Option<Pull>, shutdown: &Shutdown) -> Result<(), Source> {
        let (found, ack_wait) = tokio::select! {
            () = shutdown.wait() => return Ok(()),
            () = link.connected() => {
                let source = match source {
                    Some(source) => source,
                    None => source.insert(self.subscribe(link).await?),
                };
                // as it is at the broker
                let ack_wait = source.consumer.cached_info().config.ack_wait;
                (self.fetch(source, link, shutdown).await?, ack_wait)
            }
        };
        let delivered: Vec<_> = found.into_iter().filter_map(|message| self.read(message)).collect();
        self.work_off(delivered, ack_wait, shutdown).await;
        Ok(())
    }

    /// The consumer on the stream; what is not there is made.
    async fn subscribe(&self, link: &Link) -> Result<Pull, Source> {
        let settings = &self.settings;
        let context = ContextBuilder::new().timeout(ANSWER).build(link.client.clone());
        let made = stream::Config {
            name: settings.stream.clone(),
            subjects: vec![settings.subject.clone()],
            storage: StorageType::File,
            // an event goes when it is acknowledged: a stream without an owner would grow for ever
            retention: RetentionPolicy::WorkQueue,
            duplicate_window: DUPLICATES,
            ..stream::Config::default()
        };
        let stream = context.get_or_create_stream(made).await?;
        let wanted = pull::Config {
            durable_name: Some(settings.consumer.clone()),
            filter_subject: settings.subject.clone(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: settings.ack_wait,
            // counting is done here: the broker would drop an event silently
            max_deliver: -1,
            max_ack_pending: MOST_PENDING,
            ..pull::Config::default()
        };
        let consumer: PullConsumer = stream.get_or_create_consumer(&settings.consumer, wanted).await?;
        let config = &consumer.cached_info().config;
        if config.ack_policy != AckPolicy::Explicit {
            return Err(
                "the consumer exists, and does not want each event acknowledged (ack policy explicit)".into(),
            );
        }
        if config.max_deliver > 0 {
            let most = config.max_deliver;
            tracing::warn!(
                most,
                "the broker's consumer itself gives an event up after so many deliveries, and tells nobody"
            );
        }
        tracing::info!(
            stream = settings.stream,
            consumer = settings.consumer,
            "reading events from the broker"
        );
        Ok(Pull { context, consumer })
    }

    /// What there is, up to a batch. Where there is nothing, the first that comes, or nothing after a while.
    async fn fetch(&self, pull: &Pull, link: &Link, shutdown: &Shutdown) -> Result<Vec<Message>, Source> {
        let found = pull.at_once(self.settings.batch).await?;
        if !found.is_empty() || shutdown.is_fired() {
            return Ok(found);
        }
        self.metrics.broker_pending.set(0);
        let enough = async {
            tokio::select! {
                () = shutdown.wait() => {}
                () = link.changed() => {}
            }
        };
        pull.first(LONG_POLL, enough).await
    }

    fn read(&self, message: Message) -> Option<Delivered> {
        let info = match message.info() {
            Ok(info) => info,
            Err(error) => {
                tracing::warn!(%error, "the broker delivered what is no message of a stream");
                return None;
            }
        };
        self.metrics.broker_pending.set(i64::try_from(info.pending).unwrap_or(i64::MAX));
        let (sequence, tries) = (info.stream_sequence, u64::try_from(info.delivered).unwrap_or(1));
        if tries > 1 {
            self.metrics.broker_redelivered.inc();
        }
        let own = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID));
        let own = own.map(|key| key.as_str().to_owned()).filter(|key| !key.is_empty());
        let key = own.unwrap_or_else(|| {
            format!("{}:{sequence}:{}", info.stream, info.published.unix_timestamp_nanos())
        });
        let event =
            Incoming { subject: message.subject.to_string(), key, body: message.payload.clone(), tries };
        Some(Delivered { message, event, sequence })
    }

    /// Takes them, and tells the broker what became of each.
    async fn work_off(&self, delivered: Vec<Delivered>, ack_wait: Duration, shutdown: &Shutdown) {
        let (fit, unfit): (Vec<_>, Vec<_>) =
            delivered.into_iter().partition(|one| fault(&one.event).is_none());
        let mut refused: Vec<_> =
            unfit.into_iter().filter_map(|one| fault(&one.event).map(|reason| (one, reason))).collect();
        if !fit.is_empty() {
            let Some(verdicts) = self.take(&fit, ack_wait, shutdown).await else {
                // another node may have a database
                return answer(fit.iter().map(|one| (&one.message, AckKind::Nak(None)))).await;
            };
            let mut stored = Vec::new();
            for (one, verdict) in fit.into_iter().zip(verdicts) {
                match verdict {
                    Taken::Stored => stored.push(one.message),
                    Taken::Refused(reason) => refused.push((one, reason)),
                }
            }
            self.count("taken", stored.len());
            answer(stored.iter().map(|message| (message, AckKind::Ack))).await;
        }
        for (one, reason) in refused {
            let said = self.refuse(&one, reason).await;
            answer(std::iter::once((&one.message, said))).await;
        }
    }

    /// What became of them; none when the service ends before that is known. When they cannot be stored together they are
    /// stored one by one, so that what cannot be stored keeps nothing else out.
    async fn take(
        &self,
        delivered: &[Delivered],
        ack_wait: Duration,
        shutdown: &Shutdown,
    ) -> Option<Vec<Taken>> {
        if let Some(verdicts) = self.store(delivered, ack_wait, shutdown).await? {
            return Some(verdicts);
        }
        let mut verdicts = Vec::with_capacity(delivered.len());
        for one in delivered {
            let verdict = self.store(std::slice::from_ref(one), ack_wait, shutdown).await?;
            let verdict = verdict.and_then(|mut verdicts| verdicts.pop());
            verdicts.push(verdict.unwrap_or_else(|| Taken::Refused("it cannot be stored".to_owned())));
        }
        Some(verdicts)
    }

    /// Hands them over until the database is there; none when the service ends before that, and none within when they
    /// cannot be stored. Meanwhile the broker is told that they are being worked on: a delivery that was not tried is none
    /// of an event's tries.
    async fn store(
        &self,
        delivered: &[Delivered],
        ack_wait: Duration,
        shutdown: &Shutdown,
    ) -> Option<Option<Vec<Taken>>> {
        let count = delivered.len();
        let (mut rest, longest) = (FIRST_REST, LONGEST_REST.min(ack_wait / 3));
        loop {
            let events = delivered.iter().map(|one| one.event.clone()).collect();
            match self.intake.take(events).await {
                Ok(verdicts) if verdicts.len() == count => return Some(Some(verdicts)),
                Ok(verdicts) => {
                    tracing::error!(events = count, verdicts = verdicts.len(), "events were not all judged");
                    return Some(None);
                }
                // one that is stored already is known by its id
                Err(Error::Unavailable(error) | Error::OutcomeUnknown(error)) => {
                    tracing::warn!(%error, events = count, "events of the broker wait for the database");
                }
                Err(error) => {
                    let first = delivered.first().map(|one| one.sequence);
                    tracing::error!(%error, events = count, first, "events of the broker cannot be stored");
                    return Some(None);
                }
            }
            answer(delivered.iter().map(|one| (&one.message, AckKind::Progress))).await;
            tokio::select! {
                () = shutdown.wait() => return None,
                () = tokio::time::sleep(rest) => rest = (rest * 2).min(longest),
            }
        }
    }

    /// What the broker is told of an event that was refused: to come again later, or, at its last try, that it is done
    /// with, once it is buried.
    async fn refuse(&self, one: &Delivered, reason: String) -> AckKind {
        self.count("refused", 1);
        let again = AckKind::Nak(Some(delay(self.settings.first_delay, one.event.tries)));
        let (sequence, tries) = (one.sequence, one.event.tries);
        if tries < self.settings.tries {
            return again;
        }
        match self.intake.bury(one.event.clone(), reason).await {
            Ok(()) => {
                self.count("buried", 1);
                tracing::warn!(
                    sequence,
                    tries,
                    "an event of the broker was refused too often; it is among the dead letters"
                );
                AckKind::Ack
            }
            Err(error) => {
                tracing::warn!(%error, sequence, "a refused event of the broker could not be put among the dead letters");
                again
            }
        }
    }

    fn count(&self, outcome: &str, events: usize) {
        self.metrics.broker_events.with_label_values(&[outcome]).inc_by(events as u64);
    }
}

/// Why an event need not be shown to the intake.
fn fault(event: &Incoming) -> Option<String> {
    match event.body.len() {
        0 => Some("it has no body".to_owned()),
        size if size > LARGEST_EVENT => {
            Some(format!("its body has {size} bytes; at most {LARGEST_EVENT} are taken"))
        }
        _ => None,
    }
}

/// Before an event that was refused at this try, counted from 1, is delivered again.
pub(super) fn delay(first: Duration, tries: u64) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    first.saturating_mul(2_u32.pow(doublings)).min(LONGEST_DELAY)
}

/// Tells the broker what became of messages. It need not arrive: what is not acknowledged comes again, and is known.
async fn answer(messages: impl Iterator<Item = (&Message, AckKind)>) {
    let send = async {
        for (message, kind) in messages {
            if let Err(error) = message.ack_with(kind).await {
                tracing::debug!(%error, "an acknowledgement could not be sent");
            }
        }
    };
    // while there is no connection they wait in a queue, which may be full
    if tokio::time::timeout(ANSWER, send).await.is_err() {
        tracing::debug!("acknowledgements could not be sent");
    }
}
