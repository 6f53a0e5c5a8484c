//! What this node has of the group: partitions that were assigned, and where it reads them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use krafka::consumer::{Consumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition};

use crate::broker::{Broker, Position};
use crate::metrics::Metrics;

/// For a commit of offsets to the group.
const COMMIT: Duration = Duration::from_secs(3);

/// The partitions of this node, shared with the group's client, which tells of each change from within a poll.
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
    /// Assigned, and paused until their position is known: by topic.
    pub(super) unplaced: BTreeMap<String, BTreeSet<i32>>,
    /// Assigned and read.
    pub(super) placed: HashMap<TopicPartition, Placed>,
}

/// A partition that is read.
pub(super) struct Placed {
    /// As it is stored.
    pub(super) position: Position,
    /// The offset that the group was last told.
    committed: Option<i64>,
}

impl Membership {
    pub(super) fn new(metrics: Metrics) -> Self {
        let inner = Inner { consumer: OnceLock::new(), table: Mutex::default(), metrics };
        Self(Arc::new(inner))
    }

    /// Ties it to the consumer whose partitions they are.
    pub(super) fn belongs_to(&self, consumer: &Arc<Consumer>) {
        // called once for each
        let _ = self.0.consumer.set(Arc::downgrade(consumer));
    }

    fn consumer(&self) -> Option<Arc<Consumer>> {
        self.0.consumer.get().and_then(Weak::upgrade)
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops reading a partition until its position was looked up again.
    pub(super) async fn displace(&self, partition: &TopicPartition) {
        let is_assigned = {
            let mut table = self.table();
            let is_assigned = table.placed.remove(partition).is_some();
            if is_assigned {
                table.unplaced.entry(partition.topic.clone()).or_default().insert(partition.partition);
            }
            is_assigned
        };
        if is_assigned && let Some(consumer) = self.consumer() {
            consumer.pause(&partition.topic, &[partition.partition]).await;
        }
    }

    /// Begins to read a partition, if it is still this node's.
    pub(super) async fn place(&self, position: Position) -> krafka::Result<()> {
        let Some(consumer) = self.consumer() else { return Ok(()) };
        let key = TopicPartition::new(position.partition.topic.clone(), position.partition.number);
        consumer.seek(&key.topic, key.partition, position.next).await?;
        let was_waiting = {
            let mut table = self.table();
            let waiting = table.unplaced.get_mut(&key.topic);
            let was_waiting = waiting.is_some_and(|waiting| waiting.remove(&key.partition));
            if was_waiting {
                table.placed.insert(key.clone(), Placed { position, committed: None });
            }
            table.unplaced.retain(|_, waiting| !waiting.is_empty());
            was_waiting
        };
        if was_waiting {
            consumer.resume(&key.topic, &[key.partition]).await;
        }
        Ok(())
    }

    /// Tells the group how far its partitions are read. What it is not told is read again by nobody: it goes by our rows.
    pub(super) async fn commit(&self, of: impl Fn(&TopicPartition) -> bool) {
        let Some(consumer) = self.consumer() else { return };
        let news: Vec<(TopicPartition, i64)> = {
            let table = self.table();
            let placed = table.placed.iter().filter(|(partition, _)| of(partition));
            let placed = placed.filter(|(_, placed)| placed.committed != Some(placed.position.next));
            placed.map(|(partition, placed)| (partition.clone(), placed.position.next)).collect()
        };
        if news.is_empty() {
            return;
        }
        let offsets = news.iter().map(|(partition, next)| (partition, OffsetAndMetadata::new(*next)));
        match tokio::time::timeout(COMMIT, consumer.commit_offsets(offsets)).await {
            Ok(Ok(())) => {
                let mut table = self.table();
                for (partition, next) in news {
                    if let Some(placed) = table.placed.get_mut(&partition) {
                        placed.committed = Some(next);
                    }
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "offsets could not be committed to the consumer group"),
            Err(_) => tracing::debug!("offsets were not committed to the consumer group in time"),
        }
    }

    fn forget(&self, partitions: &[TopicPartition]) {
        let mut table = self.table();
        for partition in partitions {
            table.placed.remove(partition);
            if let Some(waiting) = table.unplaced.get_mut(&partition.topic) {
                waiting.remove(&partition.partition);
            }
            let labels = [super::Kafka::NAME, &partition.topic, &partition.partition.to_string()];
            // there is none for what was never read
            let _ = self.0.metrics.broker_lag.remove_label_values(&labels);
        }
        table.unplaced.retain(|_, waiting| !waiting.is_empty());
    }
}

impl ConsumerRebalanceListener for Membership {
    async fn on_partitions_assigned(&self, partitions: &[TopicPartition]) {
        self.0.metrics.broker_rebalances.with_label_values(&[super::Kafka::NAME]).inc();
        tracing::info!(partitions = partitions.len(), "partitions of Kafka were assigned to this node");
        let Some(consumer) = self.consumer() else { return };
        for TopicPartition { topic, partition, .. } in partitions {
            self.table().unplaced.entry(topic.clone()).or_default().insert(*partition);
            consumer.pause(topic, &[*partition]).await;
        }
    }

    async fn on_partitions_revoked(&self, partitions: &[TopicPartition]) {
        tracing::info!(partitions = partitions.len(), "partitions of Kafka go to other nodes");
        self.commit(|partition| partitions.contains(partition)).await;
        self.forget(partitions);
    }

    async fn on_partitions_lost(&self, partitions: &[TopicPartition]) {
        tracing::warn!(
            partitions = partitions.len(),
            "this node's partitions of Kafka went to other nodes, since nothing was heard of it"
        );
        self.forget(partitions);
    }
}
