//! Renders templates on a bounded number of threads, so that an expensive template blocks neither a worker of the
//! server nor a task of the engine.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// The number of renderings in one turn. Concurrent callers take turns.
const TURN: usize = 16;

/// Limits the number of threads that render templates at once; cloning it is cheap.
#[derive(Debug, Clone)]
pub struct RenderPool(Arc<Semaphore>);

impl Default for RenderPool {
    /// Creates a pool with a thread for each core.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self(Arc::new(Semaphore::new(cores)))
    }
}

impl RenderPool {
    /// Runs one rendering, or a few, on a blocking thread.
    ///
    /// # Errors
    /// [`Error::Internal`] if it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let turn = Arc::clone(&self.0).acquire_owned().await.map_err(|e| Error::Internal(e.into()))?;
        let work = move || {
            let done = work();
            // held by the thread: a caller that gives up must not admit another one while the thread still runs
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| Error::Internal(e.into()))
    }

    /// Converts the items in their order, one turn after the other.
    ///
    /// # Errors
    /// As [`RenderPool::run`].
    pub async fn map<T, U>(&self, items: Vec<T>, convert: fn(T) -> U) -> Result<Vec<U>>
    where
        T: Send + 'static,
        U: Send + 'static,
    {
        let mut converted = Vec::with_capacity(items.len());
        let mut rest = items.into_iter();
        loop {
            let turn: Vec<T> = rest.by_ref().take(TURN).collect();
            if turn.is_empty() {
                return Ok(converted);
            }
            converted.extend(self.run(move || turn.into_iter().map(convert).collect::<Vec<U>>()).await?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn a_long_batch_lets_others_in_between() {
        static ORDER: Mutex<Vec<u32>> = Mutex::new(Vec::new());
        let pool = RenderPool(Arc::new(Semaphore::new(1)));
        let long = pool.map((0..10 * TURN as u32).collect(), |n| ORDER.lock().unwrap().push(n));
        let short = pool.run(|| ORDER.lock().unwrap().push(u32::MAX));
        // both wait when the permit is released
        let place = Arc::clone(&pool.0).acquire_owned().await.unwrap();
        let (long, short, ()) = tokio::join!(long, short, async { drop(place) });
        assert_eq!((long.unwrap().len(), short.is_ok()), (10 * TURN, true));
        let order = ORDER.lock().unwrap();
        assert_eq!(order.iter().position(|n| *n == u32::MAX), Some(TURN), "after one turn of the other");
        assert!(order.iter().filter(|n| **n != u32::MAX).is_sorted());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_gives_its_place_back() {
        let pool = RenderPool(Arc::new(Semaphore::new(1)));
        let panics: fn() = || panic!("on purpose");
        assert!(matches!(pool.run(panics).await, Err(Error::Internal(_))));
        assert_eq!(pool.run(|| 1).await.unwrap(), 1);
    }
}
