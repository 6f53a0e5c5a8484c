//! Messages to users' inboxes, which this service stores itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::channel::{AttemptFuture, Channel};
use super::delivery::Delivery;
use super::report::AttemptReport;
use crate::kinds::ChannelKind;

/// The reason why a message was not stored in its inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// The inboxes cannot be written at present. The message may have been stored.
    Away,
    /// The recipient is not a user's id.
    NoUser,
    /// The message cannot be stored: it has a character that the database accepts in no text.
    Refused,
}

/// The future of putting a message into an inbox.
pub type StoreFuture<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// The storage of inboxes.
pub trait InboxStore: Send + Sync {
    /// Stores a message in its recipient's inbox; it is on disk when the future completes. A message that is already
    /// there stays unchanged, which is not an error.
    fn put(&self, delivery: Delivery) -> StoreFuture<'_>;
}

/// The adapter that stores messages in inboxes.
pub struct InApp(Arc<dyn InboxStore>);

impl InApp {
    /// Creates the adapter for these inboxes.
    pub fn new(inboxes: Arc<dyn InboxStore>) -> Self {
        Self(inboxes)
    }

    async fn attempt(&self, delivery: Delivery) -> AttemptReport {
        match self.0.put(delivery).await {
            Ok(()) => AttemptReport::delivered(None, None),
            Err(StoreError::Away) => AttemptReport::none("the inbox is unavailable"),
            Err(StoreError::NoUser) => AttemptReport::permanent(
                None,
                "the recipient is not a user's id: 1 to 200 characters without spaces",
            ),
            Err(StoreError::Refused) => {
                AttemptReport::permanent(None, "the inbox cannot store it: remove characters such as U+0000")
            }
        }
    }
}

impl Channel for InApp {
    fn kind(&self) -> ChannelKind {
        ChannelKind::InApp
    }

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(self.attempt(delivery))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::report::DeliveryResult;

    struct Fixed(Result<(), StoreError>);

    impl InboxStore for Fixed {
        fn put(&self, _: Delivery) -> StoreFuture<'_> {
            Box::pin(std::future::ready(self.0))
        }
    }

    #[tokio::test]
    async fn what_is_not_in_the_inbox_is_tried_again_only_if_that_may_help() {
        let verdict = async |came| {
            let delivery = Delivery::to("user-1", "hello");
            InApp::new(Arc::new(Fixed(came))).send(delivery).await.verdict
        };
        assert_eq!(verdict(Ok(())).await, DeliveryResult::Delivered);
        assert!(matches!(
            verdict(Err(StoreError::Away)).await,
            DeliveryResult::Transient { retry_after: None, .. }
        ));
        for never in [StoreError::NoUser, StoreError::Refused] {
            assert!(matches!(verdict(Err(never)).await, DeliveryResult::Permanent { .. }), "{never:?}");
        }
    }
}
