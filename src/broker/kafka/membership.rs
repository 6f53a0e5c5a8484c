//! This node's membership of the consumer group: the assigned partitions and their positions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use krafka::consumer::{Consumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition};

use crate::broker::{Broker, Position};
use crate::metrics::Metrics;

/// The time-out of a commit of offsets to the group.
const COMMIT: Duration = Duration::from_secs(3);

/// The partitions of this node. It is shared with the group client, which reports each change from within a poll.
#[derive(Clone)]
pub(super) struct Membership(Arc<Inner>);

struct Inner {
    /// Set before the first poll.
    consumer: OnceLock<Weak<Consumer>>,
    table: Mutex<Table>,
    metrics: Metrics,
}

#[derive(Default)]
pub(super) struct Table {
    /// Assigned partitions, by topic, that are paused until their stored position is known.
    pub(super) pending: BTreeMap<String, BTreeSet<i32>>,
    /// Assigned partitions that are read.
    pub(super) active: HashMap<TopicPartition, Active>,
}

/// A partition that is read.
pub(super) struct Active {
    /// The position, equal to the stored one.
    pub(super) position: Position,
    /// The offset up to which the partition is read: the position, or behind aborted records and markers that follow it.
    pub(super) read_to: i64,
    /// The offset last committed to the group.
    committed: Option<i64>,
}

impl Active {
    /// Notes that the position was moved.
    pub(super) fn advance(&mut self, to: i64) {
        (self.position.next, self.read_to) = (to, to);
    }
}

impl Membership {
    pub(super) fn new(metrics: Metrics) -> Self {
        let inner = Inner { consumer: OnceLock::new(), table: Mutex::default(), metrics };
        Self(Arc::new(inner))
    }

    /// Sets the consumer that owns the partitions.
    pub(super) fn attach(&self, consumer: &Arc<Consumer>) {
        // fails only if it was set before, and it is called once
        let _ = self.0.consumer.set(Arc::downgrade(consumer));
    }

    fn consumer(&self) -> Option<Arc<Consumer>> {
        self.0.consumer.get().and_then(Weak::upgrade)
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pauses a partition until its stored position has been read again.
    pub(super) async fn deactivate(&self, partition: &TopicPartition) {
        let was_active = {
            let mut table = self.table();
            let was_active = table.active.remove(partition).is_some();
            if was_active {
                table.pending.entry(partition.topic.clone()).or_default().insert(partition.partition);
            }
            was_active
        };
        if was_active && let Some(consumer) = self.consumer() {
            consumer.pause(&partition.topic, &[partition.partition]).await;
        }
    }

    /// Starts to read a pending partition from a position.
    pub(super) async fn activate(&self, position: Position) -> krafka::Result<()> {
        let Some(consumer) = self.consumer() else { return Ok(()) };
        let key = TopicPartition::new(position.partition.topic.clone(), position.partition.number);
        consumer.seek(&key.topic, key.partition, position.next).await?;
        let was_pending = {
            let mut table = self.table();
            let was_pending = table.remove_pending(&key);
            if was_pending {
                let read_to = position.next;
                table.active.insert(key.clone(), Active { position, read_to, committed: None });
            }
            was_pending
        };
        if was_pending {
            consumer.resume(&key.topic, &[key.partition]).await;
        }
        Ok(())
    }

    /// Commits the positions of the selected partitions to the group. A failure is harmless: reading goes by our own rows,
    /// and the next commit repeats it.
    pub(super) async fn commit(&self, of: impl Fn(&TopicPartition) -> bool) {
        let Some(consumer) = self.consumer() else { return };
        let changed: Vec<(TopicPartition, i64)> = {
            let table = self.table();
            let active = table.active.iter().filter(|(partition, _)| of(partition));
            let changed = active.filter(|(_, active)| active.committed != Some(active.read_to));
            changed.map(|(partition, active)| (partition.clone(), active.read_to)).collect()
        };
        if changed.is_empty() {
            return;
        }
        let offsets = changed.iter().map(|(partition, offset)| (partition, OffsetAndMetadata::new(*offset)));
        match tokio::time::timeout(COMMIT, consumer.commit_offsets(offsets)).await {
            Ok(Ok(())) => {
                let mut table = self.table();
                for (partition, offset) in changed {
                    if let Some(active) = table.active.get_mut(&partition) {
                        active.committed = Some(offset);
                    }
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "offsets not committed to the consumer group"),
            Err(_) => tracing::debug!("offsets not committed to the consumer group in time"),
        }
    }

    fn forget(&self, partitions: &[TopicPartition]) {
        let mut table = self.table();
        for partition in partitions {
            table.active.remove(partition);
            table.remove_pending(partition);
            let labels = [super::Kafka::NAME, &partition.topic, &partition.partition.to_string()];
            // fails if the partition never had a lag
            let _ = self.0.metrics.broker_lag.remove_label_values(&labels);
        }
    }
}

impl Table {
    fn remove_pending(&mut self, partition: &TopicPartition) -> bool {
        let of_topic = self.pending.get_mut(&partition.topic);
        let was_pending = of_topic.is_some_and(|of_topic| of_topic.remove(&partition.partition));
        self.pending.retain(|_, of_topic| !of_topic.is_empty());
        was_pending
    }
}

impl ConsumerRebalanceListener for Membership {
    async fn on_partitions_assigned(&self, partitions: &[TopicPartition]) {
        // cooperative rebalances that change nothing for this node report an empty list
        if partitions.is_empty() {
            return;
        }
        self.0.metrics.broker_rebalances.with_label_values(&[super::Kafka::NAME]).inc();
        tracing::info!(partitions = partitions.len(), "Kafka partitions assigned");
        let Some(consumer) = self.consumer() else { return };
        for TopicPartition { topic, partition, .. } in partitions {
            self.table().pending.entry(topic.clone()).or_default().insert(*partition);
            consumer.pause(topic, &[*partition]).await;
        }
    }

    async fn on_partitions_revoked(&self, partitions: &[TopicPartition]) {
        if partitions.is_empty() {
            return;
        }
        tracing::info!(partitions = partitions.len(), "Kafka partitions revoked");
        self.commit(|partition| partitions.contains(partition)).await;
        self.forget(partitions);
    }

    async fn on_partitions_lost(&self, partitions: &[TopicPartition]) {
        tracing::warn!(
            partitions = partitions.len(),
            "Kafka partitions lost: the brokers did not hear of this node within KAFKA_SESSION"
        );
        self.forget(partitions);
    }
}
