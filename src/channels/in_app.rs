//! Messages into users' inboxes, which this service keeps itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Answer, Channel, Delivery, Sending};
use crate::kinds::ChannelKind;

/// Why a message is not in its inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPut {
    /// The inboxes cannot be written to right now. It may be there all the same.
    Away,
    /// The recipient is no user's id.
    NoUser,
    /// It cannot be kept: a character that the database takes in no text.
    Refused,
}

/// The future of putting a message into an inbox.
pub type Putting<'a> = Pin<Box<dyn Future<Output = Result<(), NotPut>> + Send + 'a>>;

/// Where inboxes are kept.
pub trait Inboxes: Send + Sync {
    /// Puts a message into its recipient's inbox; it is on disk when this answers. A message that is there already stays
    /// as it is, and that is no error.
    fn put(&self, delivery: Delivery) -> Putting<'_>;
}

/// The adapter.
pub struct InApp(Arc<dyn Inboxes>);

impl InApp {
    /// Into these inboxes.
    pub fn new(inboxes: Arc<dyn Inboxes>) -> Self {
        Self(inboxes)
    }

    async fn attempt(&self, delivery: Delivery) -> Answer {
        match self.0.put(delivery).await {
            Ok(()) => Answer::delivered(None, None),
            Err(NotPut::Away) => Answer::none("the inbox cannot be written to right now"),
            Err(NotPut::NoUser) => {
                Answer::permanent(None, "the recipient is no user's id: 1 to 200 characters without spaces")
            }
            Err(NotPut::Refused) => {
                Answer::permanent(None, "the inbox cannot keep it: take out characters such as U+0000")
            }
        }
    }
}

impl Channel for InApp {
    fn kind(&self) -> ChannelKind {
        ChannelKind::InApp
    }

    fn send(&self, delivery: Delivery) -> Sending<'_> {
        Box::pin(self.attempt(delivery))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::Verdict;

    struct Fixed(Result<(), NotPut>);

    impl Inboxes for Fixed {
        fn put(&self, _: Delivery) -> Putting<'_> {
            Box::pin(std::future::ready(self.0))
        }
    }

    #[tokio::test]
    async fn what_is_not_in_the_inbox_is_tried_again_only_if_that_may_help() {
        let verdict = async |came| {
            let delivery = Delivery::to("user-1", "hello");
            InApp::new(Arc::new(Fixed(came))).send(delivery).await.verdict
        };
        assert_eq!(verdict(Ok(())).await, Verdict::Delivered);
        assert!(matches!(verdict(Err(NotPut::Away)).await, Verdict::Transient { retry_after: None, .. }));
        for never in [NotPut::NoUser, NotPut::Refused] {
            assert!(matches!(verdict(Err(never)).await, Verdict::Permanent { .. }), "{never:?}");
        }
    }
}
