//! A connection to the cluster: the topics, the group's client, and this node's membership.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use krafka::admin::ListTopicsOptions;
use krafka::consumer::{
    AutoOffsetReset, Consumer, IsolationLevel, PartitionAssignmentStrategy, TopicPartition,
};
use tokio::time::Instant;

use super::membership::Membership;
use super::{Settings, Topics};
use crate::broker::Position;
use crate::error::Source;
use crate::metrics::Metrics;

/// The time a broker waits for records before it responds to a fetch.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// The most bytes of one fetch, and of one partition in it. A larger record comes alone.
const FETCH_BYTES: i32 = 8 * 1024 * 1024;
const PARTITION_BYTES: i32 = 1024 * 1024;
/// The most records kept from one fetch. The client throws the rest away and fetches it again.
const BUFFERED_RECORDS: i32 = 20_000;
/// The most bytes of one batch of records after decompression.
const UNPACKED_BYTES: usize = 64 * 1024 * 1024;
/// The time-out of a look at the topics.
const LOOK: Duration = Duration::from_secs(5);
/// The time-out of leaving the group.
const LEAVE: Duration = Duration::from_secs(5);

/// A connection to the cluster and this node's state there.
pub(super) struct Session {
    client: krafka::Kafka,
    pub(super) consumer: Arc<Consumer>,
    pub(super) membership: Membership,
    /// The topics to read that exist, by name.
    pub(super) topics: BTreeMap<String, Topic>,
    /// `None` if the topics have to be looked up before the next poll.
    pub(super) looked_at: Option<Instant>,
    pub(super) reported_at: Instant,
    /// The brokers responded to the last look.
    pub(super) is_connected: bool,
    /// All partitions are paused while records wait for the database.
    is_holding: bool,
    /// The named topics that do not exist, as last logged.
    missing: Vec<String>,
}

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) id: [u8; 16],
    pub(super) partitions: Vec<i32>,
}

impl Session {
    /// Connects to the cluster. The group is joined by the first poll.
    pub(super) async fn connect(settings: &Settings, metrics: &Metrics) -> Result<Self, Source> {
        let client = settings.access.connect().await?;
        let membership = Membership::new(metrics.clone());
        let records = i32::try_from(settings.batch).unwrap_or(i32::MAX);
        let consumer = client
            .consumer(settings.group.clone())
            .rebalance_listener(membership.clone())
            .partition_assignment_strategy(PartitionAssignmentStrategy::CooperativeSticky)
            .session_timeout(settings.session)
            .heartbeat_interval(settings.session / 4)
            .isolation_level(IsolationLevel::ReadCommitted)
            .enable_auto_commit(false)
            // each partition is sought before it is read: this applies when retention removes its next records meanwhile
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .fetch_max_wait(FETCH_WAIT)
            .fetch_max_bytes(FETCH_BYTES)
            .max_partition_fetch_bytes(PARTITION_BYTES)
            .max_decompressed_size(UNPACKED_BYTES)
            .max_poll_records(records)
            .max_buffered_records(BUFFERED_RECORDS)
            .metrics_push(false)
            .build()
            .await?;
        let consumer = Arc::new(consumer);
        membership.attach(&consumer);
        Ok(Self {
            client,
            consumer,
            membership,
            topics: BTreeMap::new(),
            looked_at: None,
            reported_at: Instant::now(),
            is_connected: false,
            is_holding: false,
            missing: Vec::new(),
        })
    }

    /// Looks up the topics and subscribes to those that are read.
    pub(super) async fn look(&mut self, wanted: &Topics) -> Result<(), Source> {
        // the only call that asks the brokers at once; its result also refreshes the consumer's own metadata
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
        self.log_missing(wanted, &topics);
        for (name, topic) in &topics {
            if self.topics.get(name).is_some_and(|before| before.id != topic.id) {
                for number in &topic.partitions {
                    self.membership.deactivate(&TopicPartition::new(name, *number)).await;
                }
            }
        }
        let names_changed = !self.topics.keys().eq(topics.keys());
        let partitions_changed = topics.iter().any(|(name, topic)| {
            self.topics.get(name).is_some_and(|before| before.partitions != topic.partitions)
        });
        if partitions_changed || (names_changed && topics.is_empty()) {
            // the client never notices added partitions: only a member that joins again makes the group assign them
            self.consumer.unsubscribe().await?;
        }
        if partitions_changed || (names_changed && !topics.is_empty()) {
            self.consumer.subscribe(topics.keys()).await?;
        }
        self.topics = topics;
        Ok(())
    }

    fn log_missing(&mut self, wanted: &Topics, topics: &BTreeMap<String, Topic>) {
        let Topics::Named(names) = wanted else { return };
        let missing: Vec<String> = names.iter().filter(|name| !topics.contains_key(*name)).cloned().collect();
        if missing != self.missing && !missing.is_empty() {
            tracing::warn!(topics = missing.join(", "), "Kafka topics do not exist; waiting for them");
        }
        self.missing = missing;
    }

    /// Returns the ids of the topics in the client's metadata. The records that it delivers belong to these.
    pub(super) async fn ids(&self) -> HashMap<String, [u8; 16]> {
        let known = self.consumer.fetch_metadata(None).await;
        let topics = known.map(|known| known.topics).unwrap_or_default();
        topics.into_iter().map(|topic| (topic.name, topic.topic_id)).collect()
    }

    /// Returns the position of a partition that is read.
    pub(super) fn position(&self, partition: &TopicPartition) -> Option<Position> {
        self.membership.table().active.get(partition).map(|active| active.position.clone())
    }

    fn active(&self) -> Vec<TopicPartition> {
        self.membership.table().active.keys().cloned().collect()
    }

    /// Notes how far each partition is read, aborted records and transaction markers at its end included. Only valid while
    /// no polled record waits to be stored.
    pub(super) async fn note_progress(&self) {
        for partition in self.active() {
            let position = self.consumer.position(&partition.topic, partition.partition).await;
            if let (Some(position), Some(active)) =
                (position, self.membership.table().active.get_mut(&partition))
            {
                active.read_to = position.max(active.position.next);
            }
        }
    }

    /// Stops fetching, and stays a member of the group.
    pub(super) async fn hold(&mut self) {
        if !self.is_holding {
            for partition in self.active() {
                self.consumer.pause(&partition.topic, &[partition.partition]).await;
            }
            self.is_holding = true;
        }
        match self.consumer.poll(Duration::from_millis(1)).await {
            // paused partitions deliver nothing; if one did, its records would have to be read again
            Ok(records) => {
                for record in records {
                    let partition = TopicPartition::new(&*record.topic, record.partition);
                    self.membership.deactivate(&partition).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "Kafka group not polled while records wait for the database")
            }
        }
    }

    /// Fetches again after [`Session::hold`].
    pub(super) async fn resume(&mut self) {
        if self.is_holding {
            for partition in self.active() {
                self.consumer.resume(&partition.topic, &[partition.partition]).await;
            }
            self.is_holding = false;
        }
    }

    pub(super) async fn close(self) {
        let options = krafka::CloseOptions::new().timeout(LEAVE);
        if let Err(error) = self.consumer.close_with(options).await {
            tracing::debug!(%error, "consumer group not left in order");
        }
    }
}
