//! Maps a mail server's reply to the outcome of an attempt.

use super::reply::{NoReply, SmtpReply};
use crate::channels::report::{AttemptReport, DeliveryResult};

/// The command that a reply belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// `RSET`.
    Reset,
    /// `MAIL`.
    Sender,
    /// `RCPT`.
    Recipient,
    /// `DATA`.
    Data,
    /// The content of the mail.
    Content,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "RSET",
            Self::Sender => "MAIL",
            Self::Recipient => "RCPT",
            Self::Data => "DATA",
            Self::Content => "the mail",
        }
    }
}

/// Returns true if the exchange continues after this reply.
pub(super) fn goes_on(stage: Stage, reply: &SmtpReply) -> bool {
    match stage {
        Stage::Data => reply.code == 354,
        Stage::Reset | Stage::Sender | Stage::Recipient | Stage::Content => reply.code < 300,
    }
}

/// Returns true if the server closes the connection, or if its reply is out of place, so that the next reply cannot be
/// matched to a command.
pub(super) fn closes(stage: Stage, reply: &SmtpReply) -> bool {
    reply.code == 421 || (!goes_on(stage, reply) && (reply.is_positive() || stage == Stage::Reset))
}

/// The answer for a missing reply. The server may or may not have accepted the mail.
pub(super) fn unanswered(why: NoReply) -> AttemptReport {
    AttemptReport::none(format!("the mail server did not reply: {}", why.as_str()))
}

/// Returns the outcome of a mail whose exchange ended with this reply at this stage.
pub(super) fn of(stage: Stage, reply: &SmtpReply) -> AttemptReport {
    let status_code = Some(reply.code);
    if stage == Stage::Content && goes_on(stage, reply) {
        return AttemptReport::delivered(status_code, reply.queue_id());
    }
    let error = format!("the mail server replied {} to {}", reply.codes(), stage.as_str());
    let transient = |error: String| DeliveryResult::Transient { error, retry_after: None };
    let verdict = if reply.is_transient() && stage == Stage::Recipient && reply.code != 421 {
        // a full mailbox or greylisting: the next recipient is not affected
        DeliveryResult::Deferred { error, retry_after: None }
    } else if reply.is_transient() {
        transient(error)
    } else if reply.is_positive() {
        transient(format!("{error}, which is out of place"))
    } else if is_of_the_settings(stage, reply) {
        // every other mail is refused in the same way until the settings are fixed
        transient(format!(
            "{error}: it does not let this service send; check the login and the sender address"
        ))
    } else if stage == Stage::Recipient && is_dead(reply) {
        DeliveryResult::Gone { error: format!("{error}: the address does not exist") }
    } else {
        DeliveryResult::Permanent { error }
    };
    AttemptReport::of(verdict, status_code)
}

/// Returns true if the server refused the service and not the mail: a refusal before the recipient, except for the size
/// of the mail and non-ASCII addresses, and any refusal about authentication (RFC 4954).
fn is_of_the_settings(stage: Stage, reply: &SmtpReply) -> bool {
    let is_of_the_mail = reply.code == 552 || matches!(reply.enhanced(), Some("5.2.3" | "5.3.4" | "5.6.7"));
    matches!(reply.code, 530 | 534 | 535 | 538)
        || (matches!(stage, Stage::Reset | Stage::Sender) && !is_of_the_mail)
}

/// Returns true for a bad mailbox, a bad system and a null MX (RFC 3463, RFC 7505).
fn is_dead(reply: &SmtpReply) -> bool {
    matches!(reply.enhanced(), Some("5.1.1" | "5.1.2" | "5.1.10"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(stage: Stage, code: u16, text: &str) -> AttemptReport {
        of(stage, &SmtpReply { code, lines: vec![text.to_owned()] })
    }

    #[test]
    fn each_answer_has_one_meaning() {
        use Stage::{Content, Data, Recipient, Reset, Sender};
        for (stage, code, text, kind) in [
            (Content, 250, "2.0.0 Ok", "delivered"),
            (Content, 354, "go on", "transient"),
            (Content, 451, "4.3.0 later", "transient"),
            (Content, 421, "closing", "transient"),
            (Content, 554, "5.7.1 spam", "permanent"),
            (Content, 550, "5.1.1 x", "permanent"),
            (Data, 451, "4.3.0 later", "transient"),
            (Data, 554, "5.5.1 no", "permanent"),
            (Data, 250, "what?", "transient"),
            (Recipient, 450, "4.2.0 greylisted", "deferred"),
            (Recipient, 452, "4.2.2 full", "deferred"),
            (Recipient, 550, "5.1.1 <x@y.z> unknown", "gone"),
            (Recipient, 550, "5.1.2 <x@y.z> unknown", "gone"),
            (Recipient, 556, "5.1.10 null MX", "gone"),
            (Recipient, 550, "no such user", "permanent"),
            (Recipient, 550, "5.7.1 relaying denied", "permanent"),
            (Recipient, 552, "5.2.2 full", "permanent"),
            (Recipient, 530, "5.7.0 log in", "transient"),
            (Sender, 530, "5.7.0 log in", "transient"),
            (Sender, 550, "5.7.1 not yours", "transient"),
            (Sender, 553, "5.1.8 bad sender", "transient"),
            (Sender, 552, "too large", "permanent"),
            (Sender, 550, "5.3.4 too large", "permanent"),
            (Sender, 553, "5.6.7 not in ASCII", "permanent"),
            (Sender, 452, "4.3.1 disk full", "transient"),
            (Reset, 502, "5.5.1 what?", "transient"),
        ] {
            let answer = judged(stage, code, text);
            assert_eq!(answer.status_code, Some(code));
            let (found, error) = match &answer.verdict {
                DeliveryResult::Delivered => ("delivered", ""),
                DeliveryResult::Transient { error, .. } => ("transient", error.as_str()),
                DeliveryResult::Deferred { error, .. } => ("deferred", error.as_str()),
                DeliveryResult::Permanent { error } => ("permanent", error.as_str()),
                DeliveryResult::Gone { error } => ("gone", error.as_str()),
                DeliveryResult::Throttled { .. } => ("throttled", ""),
                DeliveryResult::LocalFault => ("local fault", ""),
            };
            assert_eq!(found, kind, "{stage:?} {code} {text}: {error}");
            assert!(!error.contains("x@y.z"), "{error}");
            assert!(kind == "delivered" || error.contains(&code.to_string()), "{error}");
        }
        assert_eq!(judged(Content, 250, "Ok: queued as 12AB").provider_id.as_deref(), Some("12AB"));
    }
}
