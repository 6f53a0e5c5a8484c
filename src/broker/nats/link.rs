//! The connection: made again for ever, and what became of it logged once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, Event};
use tokio::sync::watch;

use super::access::Access;
use crate::error::{Error, Result};
use crate::metrics::Metrics;

/// Between tries to connect: it doubles from the first to the longest.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(10);
/// For the last acknowledgements to leave.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A connection that was there once, and comes back by itself.
pub(super) struct Link {
    pub(super) client: Client,
    seen: watch::Receiver<Seen>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    connected: bool,
    /// How often it was.
    times: u64,
}

impl Link {
    /// Returns with the first connection, however long that takes.
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

    /// Returns when it is connected.
    pub(super) async fn connected(&self) {
        let mut seen = self.seen.clone();
        // the other end lives as long as the client
        let _ = seen.wait_for(|seen| seen.connected).await;
    }

    /// Returns when what was asked for before will not be answered any more: the connection is lost, or another one.
    pub(super) async fn changed(&self) {
        let mut seen = self.seen.clone();
        let before = *seen.borrow_and_update();
        let _ = seen.wait_for(|seen| *seen != before).await;
    }

    /// Sends what waits to be sent.
    pub(super) async fn close(self) {
        if self.seen.borrow().connected
            && tokio::time::timeout(LAST_WORDS, self.client.flush()).await.is_err()
        {
            tracing::warn!(
                "the last acknowledgements did not reach the broker; it will deliver these events again"
            );
        }
    }
}

/// The first connection is made here, since its failures say why; later ones by the client.
async fn connect(access: &Access, witness: &Arc<Witness>) -> Result<Client> {
    let heard = Arc::clone(witness);
    let options = access.options().await?.reconnect_delay_callback(rest).event_callback(move |event| {
        heard.hear(event);
        std::future::ready(())
    });
    options.connect(access.addresses()).await.map_err(|e| Error::Unavailable(e.into()))
}

/// Before a try to connect, counted from 1. Half of it is chance, so that nodes do not come back all at once.
fn rest(tries: usize) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let longest = (FIRST_REST * 2_u32.pow(doublings)).min(LONGEST_REST);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Sees what happens to the connection.
struct Witness {
    servers: String,
    metrics: Metrics,
    seen: watch::Sender<Seen>,
    /// What was last logged as the reason why there is none.
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
                tracing::warn!(
                    servers = self.servers,
                    "the connection to the broker is lost; connecting again"
                );
            }
            Event::ClientError(error) => self.failed(error.to_string()),
            Event::ServerError(error) => tracing::warn!(%error, "the broker complains"),
            Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining => {
                tracing::info!(%event, "the broker's connection");
            }
        }
    }

    /// A try to connect failed. The same again is not logged: it is tried for ever.
    fn failed(&self, reason: String) {
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if problem.as_ref() != Some(&reason) {
            tracing::warn!(servers = self.servers, reason, "cannot connect to the broker; trying again");
            *problem = Some(reason);
        }
    }
}
