//! Produces records with the three producers that tests use: the Rust crate, kcat, and Kafka's console producer.

use std::process::Command;

use krafka::{Compression, Record};

use super::Kafka;
use super::tools::run;

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Commits it, so that its records are read.
    Commit,
    /// Aborts it: its records are in the log, and a consumer with `read_committed` skips them.
    Abort,
}

impl Kafka {
    /// Writes records, waits until each is acknowledged, and returns their offsets in the order of the records. Records
    /// of one partition keep their order. The crate cannot compress with zstd here: [`Kafka::kcat`] can.
    pub async fn produce(
        &self,
        records: impl IntoIterator<Item = Record>,
        compression: Compression,
    ) -> Vec<(i32, i64)> {
        let client = self.client().await;
        let producer = client.producer().compression(compression).max_request_size(64 << 20);
        let producer = producer.build().await.unwrap_or_else(|e| panic!("no producer: {e}"));
        let mut handles = Vec::new();
        for record in records {
            let handle = producer.enqueue(record).await;
            handles.push(handle.unwrap_or_else(|e| panic!("not taken: {e}; {}", self.last_words())));
        }
        let mut written = Vec::new();
        for handle in handles {
            let record = handle.await.unwrap_or_else(|e| panic!("not written: {e}; {}", self.last_words()));
            written.push((record.partition, record.offset));
        }
        producer.close().await.unwrap_or_else(|e| panic!("not closed: {e}"));
        written
    }

    /// Writes records in one transaction and ends it as requested.
    pub async fn transaction(&self, id: &str, records: impl IntoIterator<Item = Record>, end: End) {
        let client = self.client().await;
        let ended = async {
            let producer = client.producer().build_transactional(id).await?;
            producer.begin()?;
            for record in records {
                let _where = producer.send(record).await?;
            }
            match end {
                End::Commit => producer.commit().await?,
                End::Abort => producer.abort().await?,
            }
            producer.close().await
        };
        ended.await.unwrap_or_else(|e| panic!("transaction {id}: {e}; {}", self.last_words()));
    }

    /// Runs kcat with these arguments, for example `["-P", "-t", "events", "-z", "zstd", "-H", "source=shop"]`, and
    /// this standard input, and returns its output. Each line of the input is a record.
    pub fn kcat(&self, args: &[&str], input: &[u8]) -> String {
        run("kcat", Command::new("kcat").args(["-b", &self.address()]).args(args), input)
    }

    /// Runs Kafka's console producer with these properties of its reader, for example `("parse.key", "true")` and
    /// `("parse.headers", "true")`. Each line of the input is a record. This starts a JVM.
    pub fn console_producer(&self, topic: &str, properties: &[(&str, &str)], input: &[u8]) {
        let mut args =
            vec!["--bootstrap-server".to_owned(), self.address(), "--topic".to_owned(), topic.to_owned()];
        for (key, value) in properties {
            args.extend(["--reader-property".to_owned(), format!("{key}={value}")]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.tool("org.apache.kafka.tools.ConsoleProducer", &args, input);
    }
}
