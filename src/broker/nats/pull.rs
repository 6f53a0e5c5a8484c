//! A single request to the broker for events.
//!
//! A request ends when the broker has responded, or has been told that the subscription ended. A request that is only
//! dropped, as the client's own batch stream does, could still be served: its event would be lost until the wait for
//! its acknowledgement is over.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::{Context, Message};
use async_nats::{StatusCode, Subscriber};
use futures_util::StreamExt;

use crate::error::Source;

/// The time limit of a response of the broker.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// The size limit of one request, which bounds memory. It is above the largest message that a broker accepts, which
/// could otherwise never be delivered.
const MOST_BYTES: usize = 72 * 1024 * 1024;

/// The consumer to read.
pub(super) struct Pull {
    pub(super) context: Context,
    pub(super) consumer: PullConsumer,
}

/// The kind of a response.
enum Word {
    Event,
    /// There are no more events.
    End,
    Wrong(String),
}

impl Pull {
    /// Returns the available events, up to `most`, without waiting.
    ///
    /// # Errors
    /// The broker does not respond, or the stream or consumer does not exist. If events arrived before that, they are
    /// returned instead.
    pub(super) async fn at_once(&self, most: usize) -> Result<Vec<Message>, Source> {
        let request =
            BatchConfig { batch: most, no_wait: true, max_bytes: MOST_BYTES, ..BatchConfig::default() };
        let answers = self.ask(request).await?;
        self.collect(answers, most, ANSWER, std::future::pending()).await
    }

    /// Waits for the first event within this time, or until `enough`.
    ///
    /// # Errors
    /// As [`Pull::at_once`].
    pub(super) async fn first(
        &self,
        within: Duration,
        enough: impl Future<Output = ()>,
    ) -> Result<Vec<Message>, Source> {
        let request = BatchConfig { batch: 1, expires: Some(within), ..BatchConfig::default() };
        let answers = self.ask(request).await?;
        self.collect(answers, 1, within + ANSWER, enough).await
    }

    async fn ask(&self, request: BatchConfig) -> Result<Subscriber, Source> {
        let client = self.context.client();
        let inbox = client.new_inbox();
        let ask = async {
            let answers = client.subscribe(inbox.clone()).await?;
            self.consumer.request_batch(request, inbox.into()).await?;
            Ok(answers)
        };
        tokio::time::timeout(ANSWER, ask).await?
    }

    async fn collect(
        &self,
        mut answers: Subscriber,
        most: usize,
        mut patience: Duration,
        enough: impl Future<Output = ()>,
    ) -> Result<Vec<Message>, Source> {
        let (mut found, mut is_enough, mut enough) = (Vec::new(), false, pin!(enough));
        while found.len() < most {
            let answer = tokio::select! {
                biased;
                answer = tokio::time::timeout(patience, answers.next()) => answer,
                () = &mut enough, if !is_enough => {
                    // messages on their way still arrive, followed by the end
                    answers.drain().await?;
                    (is_enough, patience) = (true, ANSWER);
                    continue;
                }
            };
            let broken = match answer {
                Ok(Some(message)) => match word(&message) {
                    Word::Event => {
                        found.push(Message { message, context: self.context.clone() });
                        continue;
                    }
                    Word::End => break,
                    Word::Wrong(why) => why,
                },
                Ok(None) => break,
                Err(_) if is_enough => break,
                Err(_) => "the broker does not respond".to_owned(),
            };
            if found.is_empty() {
                return Err(broken.into());
            }
            // the next request will report the error
            break;
        }
        Ok(found)
    }
}

fn word(message: &async_nats::Message) -> Word {
    let said = message.description.as_deref().unwrap_or_default();
    match message.status {
        None | Some(StatusCode::OK) => Word::Event,
        Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => Word::End,
        // the consumer's limit of unacknowledged events is reached
        Some(status) if status.as_u16() == 409 && said.contains("MaxAckPending") => Word::End,
        Some(StatusCode::NO_RESPONDERS) => {
            Word::Wrong("the stream or its consumer does not exist or is unavailable".to_owned())
        }
        Some(status) => Word::Wrong(format!("{} {said}", status.as_u16())),
    }
}
