//! Records from the three producers that tests use: the crate's own, kcat, and the console producer of Kafka.

use std::process::Command;

use krafka::{Compression, Record};

use super::Kafka;
use super::tools::run;

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its records are read.
    Commit,
    /// Its records are in the log, and a consumer of committed records skips them.
    Abort,
}

impl Kafka {
    /// Writes records, and waits until each is acknowledged; returns their offsets in the order of the records. Records
    /// of one partition keep their order. The crate cannot compress by zstd here: [`Kafka::kcat`] can.
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

    /// Writes records in one transaction, which ends like this.
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

    /// kcat with these arguments, such as `["-P", "-t", "events", "-z", "zstd", "-H", "source=shop"]`, and this on its
    /// standard input; returns what it writes. Each line of the input is a record.
    pub fn kcat(&self, args: &[&str], input: &[u8]) -> String {
        run("kcat", Command::new("kcat").args(["-b", &self.address()]).args(args), input)
    }

    /// Kafka's console producer with these properties of its reader, such as `("parse.key", "true")` and
    /// `("parse.headers", "true")`. Each line of the input is a record. A JVM starts for it.
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
