//! A load of concurrent callers. Each of them posts one request after the other over its own connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use uuid::Uuid;

use crate::wire::{Connection, Request};

/// The requests to post.
#[derive(Debug, Clone)]
pub struct Load {
    /// The host and port.
    pub address: String,
    pub connections: usize,
    /// The number of requests over all connections together.
    pub requests: u64,
    pub request: Request,
    /// The expected status of a response that is not a refusal.
    pub expects: u16,
}

/// The responses to a load.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Seconds from the first request to the last response.
    pub took: f64,
    /// The milliseconds of each request, including its retries.
    pub each: Vec<f64>,
    /// The ids in `Location`.
    pub made: Vec<Uuid>,
    /// Responses 429 and 503 with `Retry-After`, after which the request was sent again.
    pub refused: u64,
}

impl Load {
    /// Posts all requests on a single separate thread: threads that wake each other would cost more than the requests.
    ///
    /// # Errors
    /// When a response has neither the expected status nor a `Retry-After`, or when a connection is lost.
    pub async fn post(self) -> Result<Answers, String> {
        let posting = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|e| e.to_string())?.block_on(self.post_here())
        });
        posting.await.map_err(|e| e.to_string())?
    }

    async fn post_here(self) -> Result<Answers, String> {
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            connections.push(Connection::open(&self.address).await.map_err(|e| e.to_string())?);
        }
        let (load, next) = (Arc::new(self), Arc::new(AtomicU64::new(0)));
        let mut callers = JoinSet::new();
        let began = Instant::now();
        for connection in connections {
            callers.spawn(call(Arc::clone(&load), Arc::clone(&next), connection));
        }
        let mut all = Answers::default();
        while let Some(caller) = callers.join_next().await {
            let answers = caller.map_err(|e| e.to_string())??;
            all.each.extend(answers.each);
            all.made.extend(answers.made);
            all.refused += answers.refused;
        }
        all.took = began.elapsed().as_secs_f64();
        Ok(all)
    }
}

async fn call(load: Arc<Load>, next: Arc<AtomicU64>, mut connection: Connection) -> Result<Answers, String> {
    let (mut request, mut answers) = (load.request.clone(), Answers::default());
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.requests {
            return Ok(answers);
        }
        let began = Instant::now();
        let bytes = request.numbered(number);
        loop {
            let answer = connection.exchange(bytes).await.map_err(|e| e.to_string())?;
            match (answer.status, answer.retry_after) {
                (status, _) if status == load.expects => {
                    answers.made.extend(answer.made);
                    break;
                }
                (429 | 503, Some(seconds)) => {
                    answers.refused += 1;
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                _ => return Err(format!("expected status {}: {}", load.expects, connection.said())),
            }
        }
        answers.each.push(began.elapsed().as_secs_f64() * 1000.0);
    }
}
