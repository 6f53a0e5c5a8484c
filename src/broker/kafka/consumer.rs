//! Implements the broker seam for Kafka: poll, hold, release.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use krafka::consumer::{ConsumerRecord, TopicPartition};
use tokio::time::Instant;

use super::session::{Session, Topic};
use super::{Settings, Start, records};
use crate::broker::{Batch, BatchResult, Broker, Partition, Position, Positions, Step, count};
use crate::error::Source;
use crate::lifecycle::Shutdown;
use crate::metrics::Metrics;

/// The time one poll waits for a record.
const LONG_POLL: Duration = Duration::from_millis(500);
/// The interval of group polls while records wait for the database.
const PATIENCE: Duration = Duration::from_secs(3);
/// The interval of commits to the group and of updates of the lag.
const REPORT: Duration = Duration::from_secs(1);

/// The number of partitions whose limits are asked for at the same time.
const LOOKUPS: usize = 32;

/// The offsets between which the records of a partition are.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The first record's.
    low: i64,
    /// The next record's to be produced.
    high: i64,
}

/// Asks the brokers for the limits of partitions.
async fn limits(
    session: &Session,
    topic: &str,
    numbers: impl IntoIterator<Item = i32>,
) -> Result<HashMap<i32, Limits>, Source> {
    let lookups = numbers.into_iter().map(|number| async move {
        let (low, high) = session.consumer.fetch_watermarks(topic, number).await?;
        Ok((number, Limits { low, high }))
    });
    stream::iter(lookups).buffer_unordered(LOOKUPS).try_collect().await
}

/// Topics of a Kafka cluster, read as a member of a consumer group.
pub struct Kafka {
    settings: Settings,
    positions: Arc<dyn Positions>,
    metrics: Metrics,
    /// `None` before the first connection, and after an error that the client cannot recover from.
    session: Option<Session>,
}

impl Kafka {
    /// Creates a broker that connects when it is first polled.
    pub fn new(settings: Settings, positions: Arc<dyn Positions>, metrics: Metrics) -> Self {
        Self { settings, positions, metrics, session: None }
    }

    /// Polls over an open session.
    async fn read(&self, session: &mut Session) -> Result<Vec<Batch<()>>, Source> {
        session.resume().await;
        if session.looked_at.is_none_or(|at| at.elapsed() >= self.settings.look) {
            session.look(&self.settings.topics).await?;
            self.set_connected(session);
        }
        if session.reported_at.elapsed() >= REPORT {
            session.note_progress().await;
            session.membership.commit(|_| true).await;
            self.show_lag(session).await;
            session.reported_at = Instant::now();
        }
        let records = session.consumer.poll(LONG_POLL).await?;
        // before other partitions are activated: what was polled of those was not polled from their stored positions
        let batches = self.batches(session, records).await;
        match self.activate_pending(session).await {
            // the client does not deliver these records again: dropping them here would skip them
            Err(error) if !batches.is_empty() => {
                tracing::debug!(%error, "Kafka partitions not activated; retrying with the next poll");
            }
            activated => activated?,
        }
        Ok(batches)
    }

    fn set_connected(&self, session: &mut Session) {
        self.metrics.broker_connected.with_label_values(&[Self::NAME]).set(1);
        if !session.is_connected {
            session.is_connected = true;
            let Settings { access, group, topics, .. } = &self.settings;
            tracing::info!(brokers = %access, group, %topics, "connected to Kafka");
        }
    }

    /// Starts to read newly assigned partitions from their stored positions.
    async fn activate_pending(&self, session: &Session) -> Result<(), Source> {
        let pending = session.membership.table().pending.clone();
        for (name, numbers) in pending {
            // an unknown topic becomes known at the next look
            let Some(topic) = session.topics.get(&name) else { continue };
            let mut stored = self.stored(&name).await?;
            if numbers.iter().any(|number| !stored.contains_key(number)) {
                self.begin(session, &name, topic, stored.is_empty()).await?;
                // another node may have stored it first
                stored = self.stored(&name).await?;
            }
            let stored: Vec<Position> =
                numbers.iter().filter_map(|number| stored.get(number)).cloned().collect();
            // after the positions: one beyond older limits would look like a loss
            let limits = limits(session, &name, numbers).await?;
            for position in stored {
                let Some(limits) = limits.get(&position.partition.number) else { continue };
                if let Some(position) = self.reconcile(topic, position, *limits).await? {
                    session.membership.activate(position).await?;
                }
            }
        }
        Ok(())
    }

    /// Returns the stored positions of a topic's partitions, by number.
    async fn stored(&self, topic: &str) -> Result<HashMap<i32, Position>, Source> {
        let stored = self.positions.of_topic(&self.settings.group, topic).await?;
        Ok(stored.into_iter().map(|position| (position.partition.number, position)).collect())
    }

    /// Stores the first positions of a topic's partitions.
    async fn begin(&self, session: &Session, name: &str, topic: &Topic, is_new: bool) -> Result<(), Source> {
        let limits = limits(session, name, topic.partitions.iter().copied()).await?;
        let position = |(number, Limits { low, high })| {
            // partitions that are added to a known topic are read whole
            let next = if is_new && self.settings.start == Start::Latest { high } else { low };
            let partition = Partition { group: self.settings.group.clone(), topic: name.to_owned(), number };
            Position { partition, topic_id: topic.id, incarnation: 0, next }
        };
        let positions: Vec<Position> = limits.into_iter().map(position).collect();
        tracing::info!(topic = name, partitions = positions.len(), "new Kafka partitions found");
        Ok(self.positions.begin(positions).await?)
    }

    /// Compares a stored position with the partition, and returns the position to read from. It differs from the stored
    /// one if the topic was recreated or records are gone. Returns `None` if another node has moved it meanwhile.
    async fn reconcile(
        &self,
        topic: &Topic,
        stored: Position,
        Limits { low, high }: Limits,
    ) -> Result<Option<Position>, Source> {
        let (name, partition) = (stored.partition.topic.as_str(), stored.partition.number);
        let mut position = Position { topic_id: topic.id, ..stored.clone() };
        if stored.topic_id != topic.id {
            position.next = low;
            position.incarnation += 1;
            tracing::warn!(
                topic = name,
                partition,
                "Kafka topic was recreated; reading from its first record"
            );
        } else if stored.next > high {
            position.next = high;
            position.incarnation += 1;
            tracing::warn!(
                topic = name,
                partition,
                stored = stored.next,
                end = high,
                "Kafka partition ends before the stored position: the cluster lost records; reading from its end"
            );
        } else if stored.next < low {
            position.next = low;
            self.report_loss(name, partition, stored.next, low);
        }
        let is_current = position == stored || self.positions.replace(stored, position.clone()).await?;
        Ok(is_current.then_some(position))
    }

    /// Reports records that retention removed before they were read.
    fn report_loss(&self, topic: &str, partition: i32, from: i64, to: i64) {
        let lost = u64::try_from(to - from).unwrap_or(0);
        self.metrics.broker_lost.with_label_values(&[Self::NAME]).inc_by(lost);
        tracing::error!(
            topic,
            partition,
            lost,
            from,
            to,
            "Kafka records were removed by retention before they were read; reading goes on behind them"
        );
    }

    /// Converts records to events, one batch for each partition.
    async fn batches(&self, session: &Session, records: Vec<ConsumerRecord>) -> Vec<Batch<()>> {
        if records.is_empty() {
            return Vec::new();
        }
        let mut by_partition: HashMap<TopicPartition, Vec<ConsumerRecord>> = HashMap::new();
        for record in records {
            let partition = TopicPartition::new(&*record.topic, record.partition);
            by_partition.entry(partition).or_default().push(record);
        }
        let ids = session.ids().await;
        let mut batches = Vec::with_capacity(by_partition.len());
        for (partition, records) in by_partition {
            // revoked since the poll
            let Some(position) = session.position(&partition) else { continue };
            let first = records.first().map_or(position.next, |record| record.offset);
            if ids.get(&partition.topic) != Some(&position.topic_id) || first < position.next {
                // the topic was recreated, or the log was truncated
                session.membership.deactivate(&partition).await;
                continue;
            }
            self.find_loss(session, &partition, position.next, first).await;
            batches.push(self.batch(records, position));
        }
        batches
    }

    fn batch(&self, records: Vec<ConsumerRecord>, position: Position) -> Batch<()> {
        let to = records.last().map_or(position.next, |record| record.offset + 1);
        let read = records.len();
        let events: Vec<_> =
            records.into_iter().filter_map(|record| records::event(record, &position)).collect();
        count(&self.metrics, Self::NAME, "skipped", read - events.len());
        let Position { partition, incarnation, next, .. } = position;
        let handles = vec![(); events.len()];
        Batch { events, step: Some(Step { partition, incarnation, from: next, to }), handles }
    }

    /// Reports records that retention removed while the partition was read. Other gaps are normal: compaction removes
    /// records, and transactions leave markers.
    async fn find_loss(&self, session: &Session, partition: &TopicPartition, next: i64, first: i64) {
        if first == next {
            return;
        }
        let lag = session.consumer.lag().await;
        let low = lag.get(partition).and_then(|lag| lag.log_start_offset).unwrap_or(next);
        if low > next {
            self.report_loss(&partition.topic, partition.partition, next, low.min(first));
        }
    }

    async fn show_lag(&self, session: &Session) {
        for (partition, lag) in session.consumer.lag().await {
            let Some(end) = lag.last_stable_offset.or(lag.high_watermark) else { continue };
            let read_to = session.membership.table().active.get(&partition).map(|active| active.read_to);
            let Some(read_to) = read_to else { continue };
            let labels = [Self::NAME, &partition.topic, &partition.partition.to_string()];
            self.metrics.broker_lag.with_label_values(&labels).set((end - read_to).max(0));
        }
    }
}

impl Broker for Kafka {
    type Handle = ();

    const NAME: &'static str = "kafka";

    fn tries(&self) -> u64 {
        self.settings.tries
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    async fn poll(&mut self, shutdown: &Shutdown) -> Result<Vec<Batch<()>>, Source> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => tokio::select! {
                () = shutdown.wait() => return Ok(Vec::new()),
                session = Session::connect(&self.settings, &self.metrics) => session?,
            },
        };
        // a dropped poll may leave a rebalance half reported: harmless here, since only closing follows
        let read = tokio::select! {
            () = shutdown.wait() => Ok(Vec::new()),
            read = self.read(&mut session) => read,
        };
        if let Err(error) = &read {
            self.metrics.broker_connected.with_label_values(&[Self::NAME]).set(0);
            // connected again only after a look that succeeds
            (session.looked_at, session.is_connected) = (None, false);
            let is_fatal =
                error.downcast_ref::<krafka::KrafkaError>().is_some_and(|error| !error.is_retriable());
            if is_fatal {
                session.close().await;
                return read;
            }
        }
        self.session = Some(session);
        read
    }

    async fn hold(&mut self, _: &[Batch<()>]) {
        if let Some(session) = &mut self.session {
            session.hold().await;
        }
    }

    async fn release(&mut self, batch: Batch<()>, result: BatchResult) {
        let (Some(session), Some(step)) = (&self.session, batch.step) else { return };
        let partition = TopicPartition::new(step.partition.topic, step.partition.number);
        match result {
            BatchResult::Completed(_) => {
                if let Some(active) = session.membership.table().active.get_mut(&partition) {
                    active.advance(step.to);
                }
            }
            BatchResult::Fenced => {
                count(&self.metrics, Self::NAME, "fenced", batch.events.len());
                tracing::warn!(
                    topic = partition.topic,
                    partition = partition.partition,
                    "Kafka position was moved meanwhile, by another node or by a commit whose response was lost; reading \
                     again from the stored position"
                );
                session.membership.deactivate(&partition).await;
            }
            BatchResult::Unknown => {}
        }
    }

    async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }
}
