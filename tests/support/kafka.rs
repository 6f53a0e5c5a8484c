//! A real Kafka broker for a single test. `scripts/setup-kafka` installs Kafka on the machine.

pub mod admin;
pub mod produce;
pub mod security;
mod tools;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use krafka::Kafka as Client;
use tempfile::TempDir;

use super::api::{LOOK, PATIENCE};
use security::Security;
use tools::{INSTALLS, copy, installed, jvm};

/// The settings of a single node that is broker and controller, with timeouts suited to tests. Topics are not created
/// automatically. A restarted broker is admitted when the session of its predecessor has expired.
const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
num.network.threads=1
num.io.threads=2
background.threads=2
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
group.consumer.min.session.timeout.ms=500
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
group.consumer.assignment.interval.ms=0
log.initial.task.delay.ms=100
log.retention.check.interval.ms=100
log.cleaner.backoff.ms=100
log.cleaner.dedupe.buffer.size=4194304
log.segment.delete.delay.ms=100
controlled.shutdown.enable=false
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=1500
";

/// The line in the broker's log that reports readiness.
const READY: &str = "Kafka Server started";

/// A broker on its own ports. It stops when the value is dropped.
///
/// It also stops with the thread that started it, so that a killed test leaves no process behind. Start it in the
/// test's body.
pub struct Kafka {
    dir: TempDir,
    ports: Ports,
    settings: Vec<(String, String)>,
    security: Option<Security>,
    broker: Option<Child>,
    is_paused: bool,
}

/// The ports of a broker's listeners.
#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    controller: u16,
    sasl: u16,
    sasl_tls: u16,
    tls: u16,
}

impl Ports {
    /// Picks ports below the ephemeral range: an outgoing connection must not take one while the broker is down.
    fn any() -> Self {
        let mut taken: Vec<u16> = Vec::new();
        let mut port = || {
            let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
            let mut random = std::iter::repeat_with(|| fastrand::u16(20_000..30_000));
            let found = random.find(|port| !taken.contains(port) && is_free(port)).expect("a free port");
            taken.push(found);
            found
        };
        Self { plain: port(), controller: port(), sasl: port(), sasl_tls: port(), tls: port() }
    }
}

impl Kafka {
    /// Starts a broker without authentication.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a broker with these settings of `server.properties` over the defaults, for example
    /// `("message.max.bytes", "9000000")`.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::absent(settings).launched()
    }

    /// Starts a broker that also has listeners with SASL and TLS: see [`Security`].
    pub fn start_secured(settings: &[(&str, &str)]) -> Self {
        let mut kafka = Self::absent(settings);
        kafka.security = Some(Security::make(kafka.dir.path()));
        kafka.launched()
    }

    /// Prepares a broker without starting it: [`Kafka::start_again`] does.
    pub fn absent(settings: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        lay_out(dir.path());
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { dir, ports: Ports::any(), settings, security: None, broker: None, is_paused: false }
    }

    fn launched(mut self) -> Self {
        // another test may have chosen the same port at the same time
        for _ in 0..20 {
            if self.launch() {
                return self;
            }
            assert!(self.log().contains("Address already in use"), "no start: {}", self.last_words());
            self.ports = Ports::any();
            fs::remove_file(self.log_path()).expect("a log to remove");
            fs::remove_dir_all(self.dir.path().join("data")).expect("files to remove");
            lay_out(self.dir.path());
        }
        panic!("no free port for a broker: {}", self.last_words());
    }

    /// Returns `host:port` of the listener without authentication.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain)
    }

    /// Returns `host:port` of the listener with SASL over plain text.
    pub fn sasl_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.sasl)
    }

    /// Returns `host:port` of the listener with SASL over TLS.
    pub fn sasl_tls_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.sasl_tls)
    }

    /// Returns `host:port` of the listener with TLS only.
    pub fn tls_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.tls)
    }

    /// Returns the certificates of a broker started by [`Kafka::start_secured`].
    pub fn security(&self) -> &Security {
        self.security.as_ref().expect("a broker that was started with security")
    }

    /// Returns a new client over the listener without authentication.
    pub async fn client(&self) -> Client {
        let client = Client::builder(self.address()).client_id("test").connect().await;
        client.unwrap_or_else(|e| panic!("no connection: {e}; {}", self.last_words()))
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.is_paused = false;
        if let Some(mut broker) = self.broker.take() {
            // this fails if the broker has already exited
            let _ = broker.kill();
            broker.wait().expect("its end");
        }
    }

    /// Sends SIGTERM and waits until the broker has closed its files and exited.
    pub fn stop(&mut self) {
        self.resume();
        self.signal("-TERM");
        let mut broker = self.broker.take().expect("a broker that runs");
        let began = Instant::now();
        while broker.try_wait().expect("its state").is_none() {
            if began.elapsed() > PATIENCE {
                let _ = broker.kill();
                panic!("the broker does not end: {}", self.last_words());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Starts the broker on its existing ports and files. It is ready when this returns.
    pub fn start_again(&mut self) {
        assert!(self.broker.is_none(), "the broker is already running");
        assert!(self.launch(), "the broker does not start again: {}", self.last_words());
    }

    /// Sends SIGSTOP: the operating system still accepts connections and bytes, but no response comes.
    pub fn pause(&mut self) {
        self.signal("-STOP");
        self.is_paused = true;
    }

    /// Sends SIGCONT.
    pub fn resume(&mut self) {
        if self.is_paused {
            self.signal("-CONT");
            self.is_paused = false;
        }
    }

    /// Changes a setting for the next [`Kafka::start_again`].
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Returns the broker's warnings and errors since its first start.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Returns the end of the log, for the message of a failing test.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("the broker's log ends with:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    /// Returns the broker's process id.
    pub fn pid(&self) -> u32 {
        self.broker.as_ref().expect("a broker that runs").id()
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(
            status.as_ref().is_ok_and(ExitStatus::success),
            "kill {signal}: {status:?}; {}",
            self.last_words()
        );
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Starts the broker; returns true if it became ready, and false if its port was taken.
    fn launch(&mut self) -> bool {
        let settings = self.dir.path().join("server.properties");
        fs::write(&settings, self.properties()).expect("a file of settings");
        let said = self.log().len();
        let log =
            File::options().create(true).append(true).open(self.log_path()).expect("a file for the log");
        let mut command = jvm(&["-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info"]);
        command.arg("kafka.Kafka").arg(&settings).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let mut broker = command.spawn().unwrap_or_else(|e| panic!("setpriv java: {e}; {INSTALLS}"));
        let began = Instant::now();
        loop {
            // the log and not the port: the broker of another test could listen on the port
            if self.log().get(said..).is_some_and(|log| log.contains(READY)) {
                self.broker = Some(broker);
                return true;
            }
            if broker.try_wait().expect("its state").is_some() {
                return false;
            }
            if began.elapsed() > PATIENCE {
                let _ = broker.kill();
                let _ = broker.wait();
                panic!("the broker is not ready: {}", self.last_words());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn properties(&self) -> String {
        let Ports { plain, controller, .. } = self.ports;
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{plain}");
        let mut protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned();
        let mut secured = String::new();
        if let Some(security) = &self.security {
            let Ports { sasl, sasl_tls, tls, .. } = self.ports;
            listeners +=
                &format!(",SASL://127.0.0.1:{sasl},SASLTLS://127.0.0.1:{sasl_tls},TLS://127.0.0.1:{tls}");
            protocols += ",SASL:SASL_PLAINTEXT,SASLTLS:SASL_SSL,TLS:SSL";
            secured = security.properties();
        }
        let mut all = format!(
            "{SETTINGS}log.dirs={}\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
             listener.security.protocol.map={protocols}\n{secured}",
            self.dir.path().join("data").display()
        );
        // the last of two lines with the same key takes effect
        for (key, value) in &self.settings {
            all += &format!("{key}={value}\n");
        }
        all
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes the files of a fresh broker into a folder.
fn lay_out(dir: &Path) {
    copy(&installed().join("formatted"), &dir.join("data"));
}

/// The timeout of a request of the test's own client.
const TIMEOUT: Duration = Duration::from_secs(20);
