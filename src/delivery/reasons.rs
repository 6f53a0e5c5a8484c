//! The reasons stored with messages, besides the errors of providers.

/// The reason of a message whose client was deleted.
pub const CLIENT_DELETED: &str = "the client was deleted before its message was sent";
/// The reason of a message whose mailing was cancelled.
pub const CANCELLED: &str = "the mailing was cancelled";
/// The reason of a mailing's message whose window closed before an attempt.
pub const WINDOW_CLOSED: &str = "expired: the window closed before the message was sent";
/// The reason of a notification or request that waited longer than it may.
pub const EXPIRED: &str = "expired: the expiry time passed before the message was sent";
/// The reason of a message that waits for the end of its recipient's quiet hours.
pub const QUIET: &str = "deferred: quiet hours of the recipient";
/// The reason of a message that expires before its recipient's quiet hours end.
pub const QUIET_TOO_LONG: &str = "expired: the quiet hours of the recipient end too late";
/// The error of an attempt that panicked. The panic's message is in the log.
pub const PANICKED: &str = "internal error: the attempt panicked; see the log";
