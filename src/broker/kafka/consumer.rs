//! The topics of a cluster as a broker: poll, hold, commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use krafka::admin::ListTopicsOptions;
use krafka::consumer::{
    AutoOffsetReset, Consumer, ConsumerRecord, IsolationLevel, PartitionAssignmentStrategy, TopicPartition,
};
use tokio::time::Instant;

use super::membership::Membership;
use super::{Settings, Start, Topics, records};
use crate::broker::{Batch, Broker, Fate, Partition, Position, Positions, Step, count};
use crate::error::Source;
use crate::lifecycle::Shutdown;
use crate::metrics::Metrics;

/// How long one poll waits for a record.
const LONG_POLL: Duration = Duration::from_millis(500);
/// A broker waits so long before it answers a fetch without records.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// Bytes of one fetch, and of one partition in it; a record that is larger comes alone.
const FETCH_BYTES: i32 = 8 * 1024 * 1024;
const PARTITION_BYTES: i32 = 1024 * 1024;
/// Bytes of a batch of records once it is unpacked.
const UNPACKED_BYTES: usize = 64 * 1024 * 1024;
/// While records wait for the database the group has to hear of this node.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between commits to the group, and looks at how far the partitions lie behind.
const REPORT: Duration = Duration::from_secs(1);
/// For the answer to a look at the topics.
const LOOK: Duration = Duration::from_secs(5);
/// For leaving the group.
const LEAVE: Duration = Duration::from_secs(5);

/// Topics of a Kafka cluster, read as a member of a consumer group.
pub struct Kafka {
    settings: Settings,
    positions: Arc<dyn Positions>,
    metrics: Metrics,
    /// None before the first connection, and after an error that the client does not get over.
    session: Option<Session>,
}

/// A connection to the cluster, and what this node has there.
struct Session {
    client: krafka::Kafka,
    consumer: Arc<Consumer>,
    membership: Membership,
    topics: BTreeMap<String, Topic>,
    looked_at: Option<Instant>,
    reported_at: Instant,
    /// Whether the brokers answered the last look.
    is_connected: bool,
    /// Whether all partitions are paused, since records wait for the database.
    holds: bool,
    /// Named topics that are not there, as they were last logged.
    missing: Vec<String>,
}

/// A topic as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Topic {
    id: [u8; 16],
    partitions: Vec<i32>,
}

impl Kafka {
    /// One that connects when it is first polled.
    pub fn new(settings: Settings, positions: Arc<dyn Positions>, metrics: Metrics) -> Self {
        Self { settings, positions, metrics, session: None }
    }

    async fn connect(&self) -> Result<Session, Source> {
        let client = self.settings.access.connect().await?;
        let membership = Membership::new(self.metrics.clone());
        let records = i32::try_from(self.settings.batch).unwrap_or(i32::MAX);
        let consumer = client
            .consumer(self.settings.group.clone())
            .rebalance_listener(membership.clone())
            .partition_assignment_strategy(PartitionAssignmentStrategy::CooperativeSticky)
            .session_timeout(self.settings.session)
            .heartbeat_interval(self.settings.session / 4)
            .isolation_level(IsolationLevel::ReadCommitted)
            .enable_auto_commit(false)
            // every partition is sought before it is read; this is for one whose records retention has removed meanwhile
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .fetch_max_wait(FETCH_WAIT)
            .fetch_max_bytes(FETCH_BYTES)
            .max_partition_fetch_bytes(PARTITION_BYTES)
            .max_decompressed_size(UNPACKED_BYTES)
            .max_poll_records(records)
            .max_buffered_records(records)
            .metrics_push(false)
            .build()
            .await?;
        let consumer = Arc::new(consumer);
        membership.belongs_to(&consumer);
        Ok(Session {
            client,
            consumer,
            membership,
            topics: BTreeMap::new(),
            looked_at: None,
            reported_at: Instant::now(),
            is_connected: false,
            holds: false,
            missing: Vec::new(),
        })
    }

    /// Polls, with a connection.
    async fn read(&self, session: &mut Session) -> Result<Vec<Batch<()>>, Source> {
        session.go_on().await;
        if session.looked_at.is_none_or(|at| at.elapsed() >= self.settings.look) {
            session.look(&self.settings.topics).await?;
            if !session.is_connected {
                session.is_connected = true;
                tracing::info!(
                    brokers = %self.settings.access,
                    group = self.settings.group,
                    topics = %self.settings.topics,
                    "connected to Kafka"
                );
            }
            self.metrics.broker_connected.with_label_values(&[Self::NAME]).set(1);
        }
        if session.reported_at.elapsed() >= REPORT {
            session.membership.commit(|_| true).await;
            self.show_lag(session).await;
            session.reported_at = Instant::now();
        }
        let records = session.consumer.poll(LONG_POLL).await?;
        self.place(session).await?;
        Ok(self.batches(session, records).await)
    }

    /// Begins to read the partitions that were assigned, from their stored positions.
    async fn place(&self, session: &Session) -> Result<(), Source> {
        let unplaced = session.membership.table().unplaced.clone();
        for (name, numbers) in unplaced {
            // else it comes with the next look
            let Some(topic) = session.topics.get(&name) else { continue };
            let stored = self.positions.of_topic(&self.settings.group, &name).await?;
            let stored: HashMap<i32, Position> =
                stored.into_iter().map(|position| (position.partition.number, position)).collect();
            let begins = numbers.iter().any(|number| !stored.contains_key(number));
            if begins {
                self.begin(session, &name, topic, stored.is_empty()).await?;
            }
            for number in numbers {
                // what has just begun is read with the next poll, as whoever was first has stored it
                let Some(position) = stored.get(&number) else { continue };
                if let Some(position) = self.moved_on(session, topic, position.clone()).await? {
                    session.membership.place(position).await?;
                }
            }
        }
        Ok(())
    }

    /// Stores the first positions of a topic's partitions.
    async fn begin(&self, session: &Session, name: &str, topic: &Topic, is_new: bool) -> Result<(), Source> {
        let mut positions = Vec::with_capacity(topic.partitions.len());
        for number in &topic.partitions {
            let (low, high) = session.consumer.fetch_watermarks(name, *number).await?;
            // what is added to a topic that is read has nothing that anybody had before
            let next = if is_new && self.settings.start == Start::Latest { high } else { low };
            let partition =
                Partition { group: self.settings.group.clone(), topic: name.to_owned(), number: *number };
            positions.push(Position { partition, topic_id: topic.id, incarnation: 0, next });
        }
        tracing::info!(
            topic = name,
            partitions = positions.len(),
            "a topic of Kafka is read for the first time"
        );
        Ok(self.positions.begin(positions).await?)
    }

    /// The position from which a partition can be read: the stored one, unless the topic was made anew or its records are
    /// gone. None when another node has moved it meanwhile.
    async fn moved_on(
        &self,
        session: &Session,
        topic: &Topic,
        stored: Position,
    ) -> Result<Option<Position>, Source> {
        let (name, partition) = (stored.partition.topic.as_str(), stored.partition.number);
        let (low, high) = session.consumer.fetch_watermarks(name, partition).await?;
        let mut is = Position { topic_id: topic.id, ..stored.clone() };
        if stored.topic_id != topic.id {
            is.next = low;
            is.incarnation += 1;
            tracing::warn!(
                topic = name,
                partition,
                "the topic was made anew; it is read from its first record"
            );
        } else if stored.next > high {
            is.next = high;
            is.incarnation += 1;
            tracing::warn!(
                topic = name,
                partition,
                stored = stored.next,
                end = high,
                "the partition ends before where it was read to: its broker lost records; it is read from its end"
            );
        } else if stored.next < low {
            is.next = low;
            self.lose(name, partition, stored.next, low);
        }
        if is == stored || self.positions.replace(stored, is.clone()).await? {
            return Ok(Some(is));
        }
        Ok(None)
    }

    /// Tells of records that retention removed before they were read.
    fn lose(&self, topic: &str, partition: i32, from: i64, to: i64) {
        let lost = u64::try_from(to - from).unwrap_or(0);
        self.metrics.broker_lost.with_label_values(&[Self::NAME]).inc_by(lost);
        tracing::error!(
            topic,
            partition,
            lost,
            from,
            to,
            "records were removed by the topic's retention before they were read; reading goes on behind them"
        );
    }

    /// Records as events, a batch for each partition.
    async fn batches(&self, session: &Session, records: Vec<ConsumerRecord>) -> Vec<Batch<()>> {
        if records.is_empty() {
            return Vec::new();
        }
        let mut of_partitions: HashMap<TopicPartition, Vec<ConsumerRecord>> = HashMap::new();
        for record in records {
            let partition = TopicPartition::new(&*record.topic, record.partition);
            of_partitions.entry(partition).or_default().push(record);
        }
        let ids = session.ids().await;
        let mut batches = Vec::with_capacity(of_partitions.len());
        for (partition, records) in of_partitions {
            // gone to another node since it was polled
            let Some(position) = session.position(&partition) else { continue };
            let first = records.first().map_or(position.next, |record| record.offset);
            if ids.get(&partition.topic) != Some(&position.topic_id) || first < position.next {
                // a topic of this name was made anew, or the log begins or ends elsewhere
                session.membership.displace(&partition).await;
                continue;
            }
            self.look_for_losses(session, &partition, position.next, first).await;
            batches.push(self.batch(records, position));
        }
        batches
    }

    fn batch(&self, records: Vec<ConsumerRecord>, position: Position) -> Batch<()> {
        let to = records.last().map_or(position.next, |record| record.offset + 1);
        let count_of_records = records.len();
        let events: Vec<_> =
            records.into_iter().filter_map(|record| records::event(record, &position)).collect();
        count(&self.metrics, Self::NAME, "skipped", count_of_records - events.len());
        let Position { partition, incarnation, next, .. } = position;
        let handles = vec![(); events.len()];
        Batch { events, step: Some(Step { partition, incarnation, from: next, to }), handles }
    }

    /// Counts what retention removed while the partition was read. Other gaps are what a topic is: a compacted one leaves
    /// records out, and transactions leave their marks.
    async fn look_for_losses(&self, session: &Session, partition: &TopicPartition, next: i64, first: i64) {
        if first == next {
            return;
        }
        let known = session.consumer.lag().await;
        let begins = known.get(partition).and_then(|lag| lag.log_start_offset).unwrap_or(next);
        if begins > next {
            self.lose(&partition.topic, partition.partition, next, begins.min(first));
        }
    }

    async fn show_lag(&self, session: &Session) {
        for (partition, lag) in session.consumer.lag().await {
            let Some(end) = lag.last_stable_offset.or(lag.high_watermark) else { continue };
            let Some(position) = session.position(&partition) else { continue };
            let labels = [Self::NAME, &partition.topic, &partition.partition.to_string()];
            self.metrics.broker_lag.with_label_values(&labels).set((end - position.next).max(0));
        }
    }
}

impl Session {
    /// Looks which topics there are, and subscribes to those that are read.
    async fn look(&mut self, wanted: &Topics) -> Result<(), Source> {
        // it alone asks the brokers at once, and what it hears goes into the metadata that the consumer reads by
        self.client.admin().list_topics(ListTopicsOptions::default().timeout(LOOK)).await?;
        let known = self.consumer.fetch_metadata(None).await?.topics;
        let known =
            known.into_iter().filter(|topic| wanted.contain(&topic.name) && !topic.partitions.is_empty());
        let topics: BTreeMap<String, Topic> = known
            .map(|topic| {
                let mut partitions: Vec<i32> = topic.partitions.keys().copied().collect();
                partitions.sort_unstable();
                (topic.name, Topic { id: topic.topic_id, partitions })
            })
            .collect();
        self.looked_at = Some(Instant::now());
        if let Topics::Named(names) = wanted {
            let missing: Vec<String> =
                names.iter().filter(|name| !topics.contains_key(*name)).cloned().collect();
            if missing != self.missing && !missing.is_empty() {
                tracing::warn!(
                    topics = missing.join(", "),
                    "topics of Kafka are not there; looking for them again"
                );
            }
            self.missing = missing;
        }
        for (name, topic) in &topics {
            if self.topics.get(name).is_some_and(|before| before.id != topic.id) {
                for number in &topic.partitions {
                    self.membership.displace(&TopicPartition::new(name, *number)).await;
                }
            }
        }
        let is_other = !self.topics.keys().eq(topics.keys());
        let has_more = topics.iter().any(|(name, topic)| {
            self.topics.get(name).is_some_and(|before| before.partitions != topic.partitions)
        });
        if has_more || (is_other && topics.is_empty()) {
            // a member that comes anew makes the group share all partitions that there are by now
            self.consumer.unsubscribe().await?;
        }
        if has_more || (is_other && !topics.is_empty()) {
            self.consumer.subscribe(topics.keys()).await?;
        }
        self.topics = topics;
        Ok(())
    }

    /// The ids of the topics, as the client last heard of them: what it reads is of these.
    async fn ids(&self) -> HashMap<String, [u8; 16]> {
        let known = self.consumer.fetch_metadata(None).await;
        let topics = known.map(|known| known.topics).unwrap_or_default();
        topics.into_iter().map(|topic| (topic.name, topic.topic_id)).collect()
    }

    fn position(&self, partition: &TopicPartition) -> Option<Position> {
        self.membership.table().placed.get(partition).map(|placed| placed.position.clone())
    }

    fn placed(&self) -> Vec<TopicPartition> {
        self.membership.table().placed.keys().cloned().collect()
    }

    /// Stops fetching, and stays a member of the group.
    async fn hold(&mut self) {
        if !self.holds {
            for partition in self.placed() {
                self.consumer.pause(&partition.topic, &[partition.partition]).await;
            }
            self.holds = true;
        }
        match self.consumer.poll(Duration::from_millis(1)).await {
            // there are none while all partitions are paused; if there were, they would have to come again
            Ok(records) => {
                for record in records {
                    let partition = TopicPartition::new(&*record.topic, record.partition);
                    self.membership.displace(&partition).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "Kafka was not heard of while records wait for the database")
            }
        }
    }

    async fn go_on(&mut self) {
        if self.holds {
            for partition in self.placed() {
                self.consumer.resume(&partition.topic, &[partition.partition]).await;
            }
            self.holds = false;
        }
    }

    async fn close(self) {
        let options = krafka::CloseOptions::new().timeout(LEAVE);
        if let Err(error) = self.consumer.close_with(options).await {
            tracing::debug!(%error, "the consumer group was not left in order");
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
                session = self.connect() => session?,
            },
        };
        let read = tokio::select! {
            () = shutdown.wait() => Ok(Vec::new()),
            read = self.read(&mut session) => read,
        };
        if let Err(error) = &read {
            self.metrics.broker_connected.with_label_values(&[Self::NAME]).set(0);
            // looked at again before it counts as connected
            (session.looked_at, session.is_connected) = (None, false);
            let is_for_good =
                error.downcast_ref::<krafka::KrafkaError>().is_some_and(|error| !error.is_retriable());
            if is_for_good {
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

    async fn release(&mut self, batch: Batch<()>, fate: Fate) {
        let (Some(session), Some(step)) = (&self.session, batch.step) else { return };
        let partition = TopicPartition::new(step.partition.topic, step.partition.number);
        match fate {
            Fate::Taken(_) => {
                if let Some(placed) = session.membership.table().placed.get_mut(&partition) {
                    placed.position.next = step.to;
                }
            }
            Fate::Moved => {
                count(&self.metrics, Self::NAME, "fenced", batch.events.len());
                tracing::warn!(
                    topic = partition.topic,
                    partition = partition.partition,
                    "the position was moved meanwhile, by another node or by a commit whose answer was lost; what this \
                     node read behind it is read again from there"
                );
                session.membership.displace(&partition).await;
            }
            Fate::Unknown => {}
        }
    }

    async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }
}
