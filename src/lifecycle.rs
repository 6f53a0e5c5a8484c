//! Start and shutdown of the process's tasks.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The shutdown signal that every task receives. It wraps a [`CancellationToken`], so that a task can wait for the
/// shutdown and cannot trigger it.
#[derive(Debug, Clone)]
pub struct Shutdown(CancellationToken);

/// The sender of [`Shutdown`]. Dropping its last clone triggers the shutdown, which a [`CancellationToken`] alone does
/// not: without its owner, a task would run forever.
#[derive(Debug, Clone)]
pub struct ShutdownTrigger {
    token: CancellationToken,
    _at_last: Arc<DropGuard>,
}

/// Creates a shutdown signal and its trigger.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let token = CancellationToken::new();
    let trigger = ShutdownTrigger { token: token.clone(), _at_last: Arc::new(token.clone().drop_guard()) };
    (trigger, Shutdown(token))
}

impl ShutdownTrigger {
    /// Signals every task to end.
    pub fn fire(&self) {
        self.token.cancel();
    }

    /// Returns true after the shutdown was triggered.
    pub fn is_fired(&self) -> bool {
        self.token.is_cancelled()
    }
}

impl Shutdown {
    /// Returns true after the shutdown was triggered.
    pub fn is_fired(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the shutdown.
    pub async fn wait(&self) {
        self.0.cancelled().await;
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

/// Runs a named task that ends after the shutdown. A panic may leave inconsistent state in memory, and without the task
/// a part of the service stands still, so both a panic and an earlier end trigger the shutdown, and the next start
/// continues from the state on disk.
pub fn supervise(
    name: &'static str,
    trigger: ShutdownTrigger,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    watch(task, move |end| match end {
        Ok(()) if trigger.is_fired() => {}
        Ok(()) => {
            tracing::error!(task = name, "task ended before the shutdown; shutting down");
            trigger.fire();
        }
        Err(failure) => fail(name, &trigger, &failure),
    })
}

/// Runs a named task that ends when its last user is gone, which may be before the shutdown. Only a panic triggers the
/// shutdown.
pub fn supervise_while_used(
    name: &'static str,
    trigger: ShutdownTrigger,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    watch(task, move |end| {
        if let Err(failure) = end {
            fail(name, &trigger, &failure);
        }
    })
}

fn watch(
    task: impl Future<Output = ()> + Send + 'static,
    ended: impl FnOnce(Result<(), JoinError>) + Send + 'static,
) -> JoinHandle<()> {
    // a set, so that aborting the outer task aborts the inner one
    let mut inner = JoinSet::new();
    inner.spawn(task);
    tokio::spawn(async move {
        if let Some(end) = inner.join_next().await {
            ended(end);
        }
    })
}

/// Triggers the shutdown after a panic. A task that was aborted has not failed.
fn fail(name: &'static str, trigger: &ShutdownTrigger, failure: &JoinError) {
    if failure.is_panic() {
        tracing::error!(task = name, "task panicked; shutting down");
        trigger.fire();
    }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn every_task_learns_of_the_shutdown() {
        let (trigger, shutdown) = shutdown();
        let other = shutdown.clone();
        assert!(!shutdown.is_fired() && other.wait().now_or_never().is_none());
        trigger.clone().fire();
        assert!(shutdown.is_fired() && trigger.is_fired() && other.wait().now_or_never().is_some());
    }

    #[tokio::test]
    async fn dropping_the_last_trigger_ends_the_tasks() {
        let (trigger, shutdown) = shutdown();
        let clone = trigger.clone();
        drop(trigger);
        assert!(!shutdown.is_fired());
        drop(clone);
        shutdown.wait().await;
    }

    #[tokio::test]
    async fn a_panic_triggers_the_shutdown() {
        for supervised in [true, false] {
            let (trigger, shutdown) = shutdown();
            let task = async { panic!("on purpose") };
            let ended = match supervised {
                true => supervise("test", trigger.clone(), task),
                false => supervise_while_used("test", trigger.clone(), task),
            };
            shutdown.wait().await;
            ended.await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_early_end_of_a_task_triggers_the_shutdown() {
        let (trigger, shutdown) = shutdown();
        supervise("test", trigger.clone(), async {}).await.unwrap();
        assert!(shutdown.is_fired());
    }

    #[tokio::test]
    async fn a_task_without_users_may_end() {
        let (trigger, shutdown) = shutdown();
        supervise_while_used("test", trigger.clone(), async {}).await.unwrap();
        assert!(!shutdown.is_fired());
    }

    #[tokio::test]
    async fn aborting_a_task_aborts_its_work_and_is_no_failure() {
        let (trigger, shutdown) = shutdown();
        let (alive, gone) = tokio::sync::oneshot::channel::<()>();
        let task = supervise("test", trigger.clone(), async move {
            std::future::pending::<()>().await;
            drop(alive);
        });
        tokio::task::yield_now().await;
        task.abort();
        assert!(gone.await.is_err() && !shutdown.is_fired());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_with_the_wake_up_the_time_or_the_shutdown() {
        let (trigger, shutdown) = shutdown();
        let (wake, began) = (Notify::new(), tokio::time::Instant::now());
        wake.notify_one();
        shutdown.rest(&wake, Duration::from_secs(5)).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        shutdown.rest(&wake, Duration::from_secs(5)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        trigger.fire();
        shutdown.rest(&wake, Duration::from_secs(5)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }
}
