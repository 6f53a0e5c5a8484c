//! One request to the broker for events.
//!
//! A request is over when the broker has answered it or has heard that nobody listens any more. One that were merely
//! dropped, as the client's own stream of a batch is, could still be served: its event would be delivered to nobody, and
//! come again only when the wait for its acknowledgement is over.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::{Context, Message};
use async_nats::{StatusCode, Subscriber};
use futures_util::StreamExt;

use crate::error::Source;

/// For an answer of the broker.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of one request, so that memory is bounded. Above the largest message that a broker can take, which could never
/// be delivered otherwise.
const MOST_BYTES: usize = 72 * 1024 * 1024;

/// The consumer that is read.
pub(super) struct Pull {
    pub(super) context: Context,
    pub(super) consumer: PullConsumer,
}

/// What an answer that is no event says.
enum Word {
    Event,
    /// There are no more.
    End,
    Wrong(String),
}

impl Pull {
    /// All that is there, up to so many.
    ///
    /// # Errors
    /// When the broker does not answer, or has no such stream or consumer. What came before that is no error.
    pub(super) async fn at_once(&self, most: usize) -> Result<Vec<Message>, Source> {
        let request =
            BatchConfig { batch: most, no_wait: true, max_bytes: MOST_BYTES, ..BatchConfig::default() };
        let answers = self.ask(request).await?;
        self.collect(answers, most, ANSWER, std::future::pending()).await
    }

    /// The first that comes within this time, unless `enough` comes before.
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
                    // what is on its way still comes, and then the end
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
                Err(_) => "the broker does not answer".to_owned(),
            };
            if found.is_empty() {
                return Err(broken.into());
            }
            // the next request will meet it again
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
        // as many as the consumer allows are being worked on, or wait for another try
        Some(status) if status.as_u16() == 409 && said.contains("MaxAckPending") => Word::End,
        Some(StatusCode::NO_RESPONDERS) => {
            Word::Wrong("nobody answers for the stream and its consumer".to_owned())
        }
        Some(status) => Word::Wrong(format!("{} {said}", status.as_u16())),
    }
}
