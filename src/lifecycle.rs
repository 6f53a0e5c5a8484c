//! How the process's tasks begin and end.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Told to every task; true once the process is to end.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// The other end of [`Shutdown`].
#[derive(Debug, Clone)]
pub struct Trigger(std::sync::Arc<watch::Sender<bool>>);

/// A signal and its trigger.
pub fn shutdown() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(std::sync::Arc::new(sender)), Shutdown(receiver))
}

impl Trigger {
    /// Tells every task to end.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether the process is to end.
    pub fn is_fired(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the process is to end.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // an error means that the trigger is gone, and with it everyone who wants this task
        let _ = receiver.wait_for(|fired| *fired).await;
    }

    /// Waits between two looks at what there is to do: for so long, until it is woken, or until the process is to end.
    pub async fn rest(&self, wake: &Notify, pause: Duration) {
        tokio::select! {
            () = self.wait() => {}
            () = wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Tidies up in bounded steps until the shutdown: while a step says that there is more, the next follows at once, otherwise
/// after a pause.
pub async fn tidy<F: Future<Output = bool>>(shutdown: Shutdown, pause: Duration, step: impl Fn() -> F) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(pause) => {}
        }
        while !shutdown.is_fired() && step().await {}
    }
}

/// Runs a task under a name. One that panics cannot be trusted to have left things whole: the process is told to end,
/// and starts anew from what is on disk.
pub fn supervise(
    name: &'static str,
    trigger: Trigger,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    // a set, so that aborting the outer task aborts the inner one
    let mut inner = tokio::task::JoinSet::new();
    inner.spawn(task);
    tokio::spawn(async move {
        if let Some(Err(failure)) = inner.join_next().await
            && failure.is_panic()
        {
            tracing::error!(task = name, "a task panicked; the service stops");
            trigger.fire();
        }
    })
}

/// Returns at SIGINT or SIGTERM.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn termination() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
    }
    Ok(())
}
