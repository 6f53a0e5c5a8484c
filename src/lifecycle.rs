//! Start and shutdown of the process's tasks.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// The shutdown signal that every task receives.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// The sender of [`Shutdown`].
#[derive(Debug, Clone)]
pub struct ShutdownTrigger(std::sync::Arc<watch::Sender<bool>>);

/// Creates a shutdown signal and its trigger.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(std::sync::Arc::new(sender)), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// Signals every task to end.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns true after the shutdown was triggered.
    pub fn is_fired(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the shutdown.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // an error means that the trigger was dropped, and with it all users of this task
        let _ = receiver.wait_for(|fired| *fired).await;
    }

    /// Waits between two polls for work: for `pause`, until `wake` is notified, or until the shutdown.
    pub async fn rest(&self, wake: &Notify, pause: Duration) {
        tokio::select! {
            () = self.wait() => {}
            () = wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Runs a periodic job in bounded steps until the shutdown. While a step returns true, the next one follows at once;
/// otherwise it follows after a pause.
pub async fn run_periodically<F: Future<Output = bool>>(
    shutdown: Shutdown,
    pause: Duration,
    step: impl Fn() -> F,
) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(pause) => {}
        }
        while !shutdown.is_fired() && step().await {}
    }
}

/// Runs a named task. A panic may leave inconsistent state in memory, so it triggers the shutdown, and the next start
/// continues from the state on disk.
pub fn supervise(
    name: &'static str,
    trigger: ShutdownTrigger,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    // a set, so that aborting the outer task aborts the inner one
    let mut inner = tokio::task::JoinSet::new();
    inner.spawn(task);
    tokio::spawn(async move {
        if let Some(Err(failure)) = inner.join_next().await
            && failure.is_panic()
        {
            tracing::error!(task = name, "task panicked; shutting down");
            trigger.fire();
        }
    })
}

/// Waits for SIGINT or SIGTERM.
///
/// # Errors
/// The signal handlers cannot be installed.
pub async fn termination() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "shutdown requested"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "shutdown requested"),
    }
    Ok(())
}
