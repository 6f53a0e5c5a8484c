//! Implements [`Broker`] for JetStream: fetches, reports progress and acknowledges.

use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{RetentionPolicy, StorageType};
use async_nats::jetstream::{AckKind, Message, context::ContextBuilder, stream};

use super::Settings;
use super::link::Link;
use super::pull::{ANSWER, Pull};
use crate::broker::{Batch, BatchResult, Broker, EventResult, Incoming, delay};
use crate::error::Source;
use crate::lifecycle::Shutdown;
use crate::metrics::Metrics;

/// The time within which the broker drops a second event with the same `Nats-Msg-Id`, in a stream that the service
/// creates.
const DUPLICATES: Duration = Duration::from_secs(10 * 60);
/// The limit of delivered and unacknowledged events, of all nodes. It includes events that wait for another try, which
/// must not block the others.
const MOST_PENDING: i64 = 50_000;
/// The time one request waits for an event.
const LONG_POLL: Duration = Duration::from_secs(20);

/// A JetStream subject, read by a durable pull consumer that all nodes share.
pub struct JetStream {
    settings: Settings,
    metrics: Metrics,
    /// `None` before the first connection.
    link: Option<Link>,
    /// `None` while the stream or the consumer may be gone.
    source: Option<Pull>,
    /// The consumer's own setting, as the server reports it.
    ack_wait: Duration,
}

impl JetStream {
    /// Creates a broker that connects when it is first polled.
    pub fn new(settings: Settings, metrics: Metrics) -> Self {
        let ack_wait = settings.ack_wait;
        Self { settings, metrics, link: None, source: None, ack_wait }
    }

    /// Fetches messages; waits a while for the first.
    async fn look(&mut self, link: &Link, shutdown: &Shutdown) -> Result<Vec<Message>, Source> {
        tokio::select! {
            () = shutdown.wait() => return Ok(Vec::new()),
            () = link.connected() => {}
        }
        let pull = match self.source.take() {
            Some(pull) => pull,
            None => self.subscribe(link).await?,
        };
        // after an error the stream or the consumer may be gone: look them up again
        let found = self.fetch(&pull, link, shutdown).await?;
        self.ack_wait = pull.consumer.cached_info().config.ack_wait;
        self.source = Some(pull);
        Ok(found)
    }

    /// Opens the consumer on the stream, and creates either if it does not exist.
    async fn subscribe(&self, link: &Link) -> Result<Pull, Source> {
        let settings = &self.settings;
        let context = ContextBuilder::new().timeout(ANSWER).build(link.client.clone());
        let made = stream::Config {
            name: settings.stream.clone(),
            subjects: vec![settings.subject.clone()],
            storage: StorageType::File,
            // an event is removed when it is acknowledged: otherwise the stream would grow without limit
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
            // the service counts the deliveries: the broker would drop an event silently
            max_deliver: -1,
            max_ack_pending: MOST_PENDING,
            ..pull::Config::default()
        };
        let consumer: PullConsumer = stream.get_or_create_consumer(&settings.consumer, wanted).await?;
        let config = &consumer.cached_info().config;
        if config.ack_policy != AckPolicy::Explicit {
            return Err("the existing consumer needs the ack policy `explicit`".into());
        }
        if config.max_deliver > 0 {
            let most = config.max_deliver;
            tracing::warn!(
                most,
                "max_deliver set on the broker's consumer, which silently drops events after it"
            );
        }
        tracing::info!(
            stream = settings.stream,
            consumer = settings.consumer,
            "reading events from the broker"
        );
        Ok(Pull { context, consumer })
    }

    /// Fetches the waiting messages, up to a batch. If there are none, waits a while for the first.
    async fn fetch(&self, pull: &Pull, link: &Link, shutdown: &Shutdown) -> Result<Vec<Message>, Source> {
        let found = pull.at_once(self.settings.batch).await?;
        if !found.is_empty() || shutdown.is_fired() {
            return Ok(found);
        }
        self.pending(0);
        let enough = async {
            tokio::select! {
                () = shutdown.wait() => {}
                () = link.changed() => {}
            }
        };
        pull.first(LONG_POLL, enough).await
    }

    fn pending(&self, events: u64) {
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        self.metrics.broker_pending.with_label_values(&[Self::NAME]).set(events);
    }

    fn read(&self, message: Message) -> Option<(Incoming, Message)> {
        let info = match message.info() {
            Ok(info) => info,
            Err(error) => {
                tracing::warn!(%error, "message without stream information ignored");
                return None;
            }
        };
        self.pending(info.pending);
        let (sequence, tries) = (info.stream_sequence, u64::try_from(info.delivered).unwrap_or(1));
        if tries > 1 {
            self.metrics.broker_redelivered.with_label_values(&[Self::NAME]).inc();
        }
        let own = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID));
        let own = own.map(|key| key.as_str().to_owned()).filter(|key| !key.is_empty());
        let key = own.unwrap_or_else(|| {
            format!("{}:{sequence}:{}", info.stream, info.published.unix_timestamp_nanos())
        });
        let event = Incoming {
            subject: message.subject.to_string(),
            key,
            name: None,
            offset: i64::try_from(sequence).unwrap_or(i64::MAX),
            body: message.payload.clone(),
            tries,
            fault: None,
        };
        Some((event, message))
    }
}

impl Broker for JetStream {
    type Handle = Message;

    const NAME: &'static str = "nats";

    fn tries(&self) -> u64 {
        self.settings.tries
    }

    fn patience(&self) -> Duration {
        self.ack_wait / 3
    }

    async fn poll(&mut self, shutdown: &Shutdown) -> Result<Vec<Batch<Message>>, Source> {
        let link = match self.link.take() {
            Some(link) => link,
            None => tokio::select! {
                () = shutdown.wait() => return Ok(Vec::new()),
                link = Link::open(&self.settings.access, &self.metrics) => link,
            },
        };
        let found = self.look(&link, shutdown).await;
        self.link = Some(link);
        let (events, handles): (Vec<_>, Vec<_>) =
            found?.into_iter().filter_map(|message| self.read(message)).unzip();
        let batch = Batch { events, step: None, handles };
        Ok(if batch.events.is_empty() { Vec::new() } else { vec![batch] })
    }

    // a redelivery would count as a try, although none was made
    async fn hold(&mut self, batches: &[Batch<Message>]) {
        let messages = batches.iter().flat_map(|batch| &batch.handles);
        answer(messages.map(|message| (message, AckKind::Progress))).await;
    }

    async fn release(&mut self, batch: Batch<Message>, result: BatchResult) {
        let first = self.settings.first_delay;
        let results = match result {
            BatchResult::Completed(results) => results,
            BatchResult::Fenced | BatchResult::Unknown => {
                return answer(batch.handles.iter().map(|message| (message, AckKind::Nak(None)))).await;
            }
        };
        let answers = results.iter().zip(&batch.events).map(|(result, event)| match result {
            EventResult::Stored | EventResult::RetryScheduled | EventResult::DeadLettered => AckKind::Ack,
            EventResult::Refused(_) => AckKind::Nak(Some(delay(first, event.tries))),
        });
        answer(batch.handles.iter().zip(answers)).await;
    }

    async fn close(self) {
        if let Some(link) = self.link {
            link.close().await;
        }
    }
}

/// Acknowledges messages. A lost acknowledgement is harmless: the message is delivered again, and its key is known.
async fn answer(messages: impl Iterator<Item = (&Message, AckKind)>) {
    let send = async {
        for (message, kind) in messages {
            if let Err(error) = message.ack_with(kind).await {
                tracing::debug!(%error, "acknowledgement not sent");
            }
        }
    };
    // without a connection they wait in a queue, which may be full
    if tokio::time::timeout(ANSWER, send).await.is_err() {
        tracing::debug!("acknowledgements timed out");
    }
}
