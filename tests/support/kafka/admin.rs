//! Operator tasks: managing topics and groups.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use krafka::admin::{
    AdminClient, ConfigOp, ConfigResource, CreatePartitionsOptions, CreateTopicsOptions,
    DeleteConsumerGroupsOptions, DeleteRecordsOptions, DeleteTopicsOptions, DescribeConsumerGroupsOptions,
    GroupOffset, IncrementalAlterConfigsOptions, ListConsumerGroupOffsetsOptions, ListOffsetsOptions,
    ListTopicsOptions, NewTopic, OffsetSpec,
};
use krafka::consumer::TopicPartition;

use super::tools::{jvm, run};
use super::{Kafka, LOOK, TIMEOUT};

/// A partition of a group as `kafka-consumer-groups --describe` shows it; a `-` in its output is `None`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupRow {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The committed offset.
    pub committed: Option<i64>,
    /// The offset that the next record will get.
    pub end: Option<i64>,
    /// The number of offsets between them.
    pub lag: Option<i64>,
    /// The member that the partition is assigned to.
    pub member: Option<String>,
}

impl Kafka {
    /// Creates a topic with these configurations, for example `("cleanup.policy", "compact")`, and waits until each
    /// partition has a leader.
    pub async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let admin = self.admin().await;
        let mut topic = NewTopic::new(name, partitions, 1).expect("a topic");
        for (key, value) in configs {
            topic = topic.with_config(*key, *value);
        }
        let options = CreateTopicsOptions::default().timeout(TIMEOUT);
        self.each(&format!("create {name}"), admin.create_topics([topic], options).await);
        self.ends(name, partitions).await;
    }

    /// Deletes a topic and waits until the broker no longer lists it.
    pub async fn delete_topic(&self, name: &str) {
        let admin = self.admin().await;
        let options = DeleteTopicsOptions::default().timeout(TIMEOUT);
        self.each(&format!("delete {name}"), admin.delete_topics([name], options).await);
        let began = Instant::now();
        loop {
            // a new client has no cached metadata
            let names = self.admin().await.list_topics(ListTopicsOptions::default()).await;
            if names.is_ok_and(|names| !names.iter().any(|other| other == name)) {
                return;
            }
            assert!(began.elapsed() < TIMEOUT, "{name} is still listed: {}", self.last_words());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Raises a topic's number of partitions to this total.
    pub async fn add_partitions(&self, topic: &str, total: i32) {
        let admin = self.admin().await;
        let options = CreatePartitionsOptions::default().timeout(TIMEOUT);
        let results = admin.create_partitions([(topic, total)], options).await;
        self.each(&format!("partitions of {topic}"), results);
        self.ends(topic, total).await;
    }

    /// Changes a configuration of a topic.
    pub async fn configure_topic(&self, topic: &str, key: &str, value: &str) {
        let admin = self.admin().await;
        let change = (ConfigResource::topic(topic), vec![ConfigOp::set(key, value)]);
        let options = IncrementalAlterConfigsOptions::default().timeout(TIMEOUT);
        let results = admin.incremental_alter_configs([change], options).await;
        self.each(&format!("{key} of {topic}"), results);
    }

    /// Deletes a partition's records below this offset, as `kafka-delete-records` does, and returns the partition's new
    /// first offset.
    pub async fn delete_records(&self, topic: &str, partition: i32, before: i64) -> i64 {
        let admin = self.admin().await;
        let place = TopicPartition::new(topic, partition);
        let options = DeleteRecordsOptions::default().timeout(TIMEOUT);
        let results = admin.delete_records([(place.clone(), before)], options).await;
        self.each(&format!("delete records of {topic}-{partition}"), results)[&place]
    }

    /// Returns the first offsets of this number of partitions.
    pub async fn beginnings(&self, topic: &str, partitions: i32) -> Vec<i64> {
        self.offsets(topic, partitions, OffsetSpec::Earliest).await
    }

    /// Returns the next offsets of this number of partitions.
    pub async fn ends(&self, topic: &str, partitions: i32) -> Vec<i64> {
        self.offsets(topic, partitions, OffsetSpec::Latest).await
    }

    async fn offsets(&self, topic: &str, partitions: i32, spec: OffsetSpec) -> Vec<i64> {
        let admin = self.admin().await;
        let places = (0..partitions).map(|partition| (TopicPartition::new(topic, partition), spec));
        let options = ListOffsetsOptions::default().timeout(TIMEOUT);
        let found = self.each(&format!("offsets of {topic}"), admin.list_offsets(places, options).await);
        (0..partitions).map(|partition| found[&TopicPartition::new(topic, partition)].offset).collect()
    }

    /// Returns a group's committed offsets by topic and partition.
    pub async fn committed(&self, group: &str) -> BTreeMap<(String, i32), i64> {
        let admin = self.admin().await;
        let options = ListConsumerGroupOffsetsOptions::default().timeout(TIMEOUT);
        let found = self
            .each(&format!("offsets of {group}"), admin.list_consumer_group_offsets(group, options).await);
        let row = |(place, offset): (TopicPartition, GroupOffset)| {
            Some(((place.topic, place.partition), offset.offset?))
        };
        found.into_iter().filter_map(row).collect()
    }

    /// Returns a group's number of members, 0 if the group does not exist.
    pub async fn members(&self, group: &str) -> usize {
        let admin = self.admin().await;
        let options = DescribeConsumerGroupsOptions::default().timeout(TIMEOUT);
        let found = admin.describe_consumer_groups([group], options).await.expect("an open client");
        found.into_values().next().map_or(0, |group| group.map_or(0, |group| group.members.len()))
    }

    /// Deletes a group without members.
    pub async fn delete_group(&self, group: &str) {
        let admin = self.admin().await;
        let options = DeleteConsumerGroupsOptions::default().timeout(TIMEOUT);
        self.each(&format!("delete {group}"), admin.delete_consumer_groups([group], options).await);
    }

    /// Returns a group as Kafka's own tool shows it. This starts a JVM, which takes a second or two.
    pub fn describe_group(&self, group: &str) -> Vec<GroupRow> {
        let shown = self.consumer_groups(&["--describe", "--group", group]);
        let mut rows: Vec<GroupRow> = shown.lines().filter_map(|line| row(group, line)).collect();
        rows.sort();
        rows
    }

    /// Runs `kafka-consumer-groups` with these arguments, for example `--reset-offsets`, and returns its output.
    pub fn consumer_groups(&self, args: &[&str]) -> String {
        let address = self.address();
        let args = [&["--bootstrap-server", address.as_str()], args].concat();
        self.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &args, b"")
    }

    /// Runs one of Kafka's command line tools, by its class name, with this standard input and returns its output.
    pub fn tool(&self, class: &str, args: &[&str], input: &[u8]) -> String {
        let mut command = jvm(&[]);
        command.arg(class).args(args);
        run(class, &mut command, input)
    }

    /// Returns a new admin client.
    pub async fn admin(&self) -> AdminClient {
        self.client().await.admin()
    }

    /// Returns the results of a call and panics if any of its items failed.
    pub(super) fn each<K: Debug + Eq + Hash, V>(
        &self,
        what: &str,
        results: krafka::Result<HashMap<K, krafka::Result<V>>>,
    ) -> HashMap<K, V> {
        let results = results.unwrap_or_else(|e| panic!("{what}: {e}; {}", self.last_words()));
        let must = |(key, result): (K, krafka::Result<V>)| match result {
            Ok(value) => (key, value),
            Err(e) => panic!("{what}: {key:?}: {e}; {}", self.last_words()),
        };
        results.into_iter().map(must).collect()
    }
}

/// Parses a line of the table, except its header: group, topic, partition, committed, end, lag, member and more.
fn row(group: &str, line: &str) -> Option<GroupRow> {
    let cells: Vec<&str> = line.split_whitespace().collect();
    let [first, topic, partition, committed, end, lag, member, ..] = cells[..] else { return None };
    Some(GroupRow {
        partition: partition.parse().ok().filter(|_| first == group)?,
        topic: topic.to_owned(),
        committed: committed.parse().ok(),
        end: end.parse().ok(),
        lag: lag.parse().ok(),
        member: Some(member.to_owned()).filter(|member| member != "-"),
    })
}
