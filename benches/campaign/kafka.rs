//! An Apache Kafka broker, for records that are produced before the service reads them.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use krafka::admin::{CreateTopicsOptions, NewTopic};
use krafka::{Kafka as Client, Record};
use tempfile::TempDir;

use crate::process::Process;
use crate::sources::PARTITIONS;
use crate::{Failure, Result};

/// The service's default topic.
const TOPIC: &str = "fanfare.events";
/// The line in the broker's log that reports readiness.
const READY: &str = "Kafka Server started";
const TIMEOUT: Duration = Duration::from_secs(20);
/// Attempts to start a broker: its random ports may be taken before it listens.
const TRIES: usize = 5;

/// The settings of a single node that is broker and controller. It has the defaults except for the number of replicas,
/// and it assigns the partitions of a new group at once instead of after three seconds.
const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
";

/// A broker on free ports with an empty store. Both are removed when the value is dropped.
pub struct Kafka {
    pub process: Process,
    /// The host and port.
    pub address: String,
    _files: TempDir,
}

impl Kafka {
    pub async fn start(directory: &Path) -> Result<Self> {
        let installed = installed()?;
        let mut failed = Failure::from("no port is free for a Kafka broker");
        for _ in 0..TRIES {
            match Self::start_once(directory, &installed).await {
                Ok(kafka) => return Ok(kafka),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn start_once(directory: &Path, installed: &Path) -> Result<Self> {
        let files = tempfile::Builder::new().prefix("kafka.").tempdir_in(directory)?;
        let (data, settings) = (files.path().join("data"), files.path().join("server.properties"));
        copy(&installed.join("formatted"), &data)?;
        let (plain, controller) = (port()?, port()?);
        let address = format!("127.0.0.1:{plain}");
        let own = format!(
            "log.dirs={}\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}\n",
            data.display()
        );
        fs::write(&settings, format!("{SETTINGS}{own}"))?;
        let archive = format!("-XX:SharedArchiveFile={}", installed.join("classes.jsa").display());
        let (jars, settings) =
            (installed.join("lib/*").display().to_string(), settings.display().to_string());
        let args = [
            "-Xmx512m",
            "-XX:+UseSerialGC",
            &archive,
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
            "-cp",
            &jars,
            "kafka.Kafka",
            &settings,
        ];
        let mut process = Process::spawn_program(directory, "java".as_ref(), "Kafka broker", &args, &[])?;
        process.wait_for(async |process| process.said().contains(READY).then_some(())).await?;
        Ok(Self { process, address, _files: files })
    }

    /// Creates the topic, produces the same number of records in each partition, and waits until the broker has stored
    /// each.
    pub async fn publish(&self, bodies: impl Iterator<Item = String>) -> Result {
        let client = Client::builder(self.address.clone()).client_id("bench").connect().await?;
        let topic = NewTopic::new(TOPIC, PARTITIONS, 1)?;
        let options = CreateTopicsOptions::default().timeout(TIMEOUT);
        for (_, created) in client.admin().create_topics([topic], options).await? {
            created?;
        }
        let producer = client.producer().build().await?;
        let mut handles = Vec::new();
        for (body, partition) in bodies.zip((0..PARTITIONS).cycle()) {
            handles.push(producer.enqueue(Record::new(TOPIC, body).partition(partition)).await?);
        }
        for handle in handles {
            let _stored = handle.await?;
        }
        Ok(producer.close().await?)
    }
}

/// Returns the folder that `scripts/setup-kafka` created.
fn installed() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/setup-kafka");
    let output = Command::new(script).output()?;
    if !output.status.success() {
        return Err(format!("Kafka is not installed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// Returns a free port below the ephemeral range.
fn port() -> Result<u16> {
    let mut random = std::iter::repeat_with(|| fastrand::u16(20_000..30_000)).take(1000);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    random.find(is_free).ok_or_else(|| "no port is free".into())
}

/// Copies a folder and its contents.
fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
