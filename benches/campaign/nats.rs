//! A nats-server with JetStream, for events that are published before the service reads them.

use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use futures_util::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;

use crate::process::Process;
use crate::{Failure, Result, parse};

/// The service's default stream, consumer and a subject.
const STREAM: &str = "FANFARE";
const CONSUMER: &str = "fanfare";
const SUBJECT: &str = "fanfare.events.user.registered";
/// The published events that are not yet acknowledged.
const IN_FLIGHT: usize = 256;
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a free port with an empty store. Both are removed when the value is dropped.
pub struct Nats {
    pub process: Process,
    pub url: String,
    _store: TempDir,
}

impl Nats {
    pub async fn start(directory: &Path) -> Result<Self> {
        let store = tempfile::Builder::new().prefix("nats.").tempdir_in(directory)?;
        // Debian installs it outside of the users' PATH
        let installed = Path::new("/usr/sbin/nats-server");
        let program = if installed.exists() { installed } else { Path::new("nats-server") };
        let path = store.path().display().to_string();
        let args = ["--jetstream", "--addr", "127.0.0.1", "--port", "-1", "--store_dir", &path];
        let mut process = Process::spawn_program(directory, program, "nats-server", &args, &[])?;
        let address = process.wait_for(async |process| parse::nats_listens_on(&process.said())).await?;
        Ok(Self { process, url: format!("nats://{address}"), _store: store })
    }

    /// Waits until a service has created the stream and its consumer.
    pub async fn is_prepared(&self) -> Result {
        let (context, began) = (self.connect().await?, Instant::now());
        while began.elapsed() < PATIENCE {
            if let Ok(stream) = context.get_stream(STREAM).await
                && stream.consumer_info(CONSUMER).await.is_ok()
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err("the service did not create a consumer in the nats-server".into())
    }

    /// Publishes events and waits until the server has stored each.
    pub async fn publish(&self, bodies: impl Iterator<Item = String>) -> Result {
        let context = self.connect().await?;
        let publish = async |body: String| {
            context.publish(SUBJECT, body.into()).await?.await?;
            Ok::<_, Failure>(())
        };
        stream::iter(bodies).map(publish).buffer_unordered(IN_FLIGHT).try_collect().await
    }

    async fn connect(&self) -> Result<Context> {
        Ok(jetstream::new(async_nats::connect(&self.url).await?))
    }
}
