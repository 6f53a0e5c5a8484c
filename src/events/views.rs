//! Response bodies of events.

mod accepted;
mod event;
mod rehearsed;
mod target;

pub use accepted::{ActionAccepted, EventAccepted, EventBatchAccepted, EventBatchItem, Success};
pub use event::{DraftView, EventView, EventWithNotificationsView, PlanView, SkippedView};
pub use rehearsed::{ActionDone, EventBatchItemRehearsed, EventBatchRehearsed, EventDone, EventRehearsed};
pub use target::{EventPerson, EventTarget, TargetName};
