//! The connection: it is reopened without limit, and each change of its state is logged once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, Event};
use tokio::sync::watch;

use super::access::Access;
use crate::error::{Error, Result};
use crate::metrics::Metrics;

/// The first pause between attempts to connect; it doubles up to [`LONGEST_REST`].
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(10);
/// The time to send the last acknowledgements.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A connection, which was open once and reconnects by itself.
pub(super) struct Link {
    pub(super) client: Client,
    seen: watch::Receiver<Seen>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    connected: bool,
    /// The number of connections so far.
    times: u64,
}

impl Link {
    /// Opens the first connection, and retries until it succeeds.
    pub(super) async fn open(access: &Access, metrics: &Metrics) -> Self {
        let (seen, watched) = watch::channel(Seen::default());
        let servers = access.to_string();
        let witness =
            Arc::new(Witness { servers, metrics: metrics.clone(), seen, problem: Mutex::default() });
        let mut tries = 0;
        loop {
            match connect(access, &witness).await {
                Ok(client) => return Self { client, seen: watched },
                Err(error) => witness.failed(error.to_string()),
            }
            tries += 1;
            tokio::time::sleep(rest(tries)).await;
        }
    }

    /// Waits until it is connected.
    pub(super) async fn connected(&self) {
        let mut seen = self.seen.clone();
        // cannot fail: the sender lives as long as the client
        let _ = seen.wait_for(|seen| seen.connected).await;
    }

    /// Waits until the connection is lost or replaced: requests from before get no response then.
    pub(super) async fn changed(&self) {
        let mut seen = self.seen.clone();
        let before = *seen.borrow_and_update();
        let _ = seen.wait_for(|seen| *seen != before).await;
    }

    /// Sends the pending acknowledgements.
    pub(super) async fn close(self) {
        if self.seen.borrow().connected
            && tokio::time::timeout(LAST_WORDS, self.client.flush()).await.is_err()
        {
            tracing::warn!("last acknowledgements not sent; the broker will deliver these events again");
        }
    }
}

/// Opens the first connection, whose errors have a reason. The client reconnects by itself later.
async fn connect(access: &Access, witness: &Arc<Witness>) -> Result<Client> {
    let heard = Arc::clone(witness);
    let options = access.options().await?.reconnect_delay_callback(rest).event_callback(move |event| {
        heard.hear(event);
        std::future::ready(())
    });
    options.connect(access.addresses()).await.map_err(|e| Error::Unavailable(e.into()))
}

/// Returns the pause before an attempt to connect, counted from 1. Half of it is random, so that nodes do not reconnect
/// all at once.
fn rest(tries: usize) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let longest = (FIRST_REST * 2_u32.pow(doublings)).min(LONGEST_REST);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Observes the events of the connection.
struct Witness {
    servers: String,
    metrics: Metrics,
    seen: watch::Sender<Seen>,
    /// The reason of the last failure that was logged.
    problem: Mutex<Option<String>>,
}

impl Witness {
    fn hear(&self, event: Event) {
        match event {
            Event::Connected => {
                *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.metrics.broker_connected.with_label_values(&["nats"]).set(1);
                self.seen.send_modify(|seen| *seen = Seen { connected: true, times: seen.times + 1 });
                tracing::info!(servers = self.servers, "connected to the broker");
            }
            Event::Disconnected | Event::Closed => {
                self.metrics.broker_connected.with_label_values(&["nats"]).set(0);
                self.seen.send_modify(|seen| seen.connected = false);
                tracing::warn!(servers = self.servers, "connection to the broker lost; reconnecting");
            }
            Event::ClientError(error) => self.failed(error.to_string()),
            Event::ServerError(error) => tracing::warn!(%error, "broker reported an error"),
            Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining => {
                tracing::info!(%event, "broker connection changed");
            }
        }
    }

    /// Logs a failed attempt to connect. Repetitions of the same reason are not logged, since attempts have no limit.
    fn failed(&self, reason: String) {
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if problem.as_ref() != Some(&reason) {
            tracing::warn!(servers = self.servers, reason, "cannot connect to the broker; trying again");
            *problem = Some(reason);
        }
    }
}
