//! Filters standalone messages by the status that the API shows.

/// Restricts a query over `message`, left-joined with `due`, to a status as the API shows it, which is the status that
/// [`MessageRow::status_at`](super::MessageRow::status_at) returns.
///
/// A macro, because the type of a query contains its tables and columns.
macro_rules! of_status {
    ($query:expr, $c:expr, $status:expr, $now:expr) => {{
        use $crate::db::schema::{dead_letter, due, message};
        use $crate::kinds::{MessageStatus, NotificationStatus};
        let query = $query;
        match $status {
            NotificationStatus::Scheduled => query
                .filter(due::due_at.nullable().gt($now).and(message::attempts.eq(0_i16)).assume_not_null()),
            NotificationStatus::Queued => query.filter(due::message_id.nullable().is_not_null()).filter(
                due::due_at.nullable().le($now).or(message::attempts.ne(0_i16).nullable()).assume_not_null(),
            ),
            NotificationStatus::Processing => query
                .filter(message::id.eq_any($crate::messages::repo::in_hand($c)?))
                .filter(message::status.eq(MessageStatus::Queued.code()))
                .filter(due::message_id.nullable().is_null()),
            // failed messages are few, and each has a dead letter
            NotificationStatus::Failed => query
                .filter(message::status.eq(MessageStatus::Failed.code()))
                .filter(diesel::dsl::exists(dead_letter::table.filter(dead_letter::id.eq(message::id)))),
            status @ (NotificationStatus::Sent
            | NotificationStatus::Expired
            | NotificationStatus::Cancelled) => query.filter(message::status.eq(status.stored().code())),
        }
    }};
}
pub(crate) use of_status;
