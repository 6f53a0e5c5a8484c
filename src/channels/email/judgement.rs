//! What a mail server's answer means for a mail.

use super::reply::{NoReply, Reply};
use crate::channels::{Answer, Verdict};

/// Where in the exchange an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// To `RSET`.
    Reset,
    /// To `MAIL`.
    Sender,
    /// To `RCPT`.
    Recipient,
    /// To `DATA`.
    Data,
    /// To the mail itself.
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

/// Whether the exchange goes on after this answer.
pub(super) fn goes_on(stage: Stage, reply: &Reply) -> bool {
    match stage {
        Stage::Data => reply.code == 354,
        Stage::Reset | Stage::Sender | Stage::Recipient | Stage::Content => reply.code < 300,
    }
}

/// Whether the server closes the connection, or what it said has no place there: nobody knows what it says next.
pub(super) fn closes(stage: Stage, reply: &Reply) -> bool {
    reply.code == 421 || (!goes_on(stage, reply) && (reply.is_positive() || stage == Stage::Reset))
}

/// No answer came: the mail may have been taken and may not.
pub(super) fn unanswered(why: NoReply) -> Answer {
    Answer::none(format!("the mail server did not answer: {}", why.as_str()))
}

/// What became of a mail that was answered with this, at this stage, or was not let go on.
pub(super) fn of(stage: Stage, reply: &Reply) -> Answer {
    let status_code = Some(reply.code);
    if stage == Stage::Content && goes_on(stage, reply) {
        return Answer::delivered(status_code, reply.queue_id());
    }
    let error = format!("the mail server answered {} to {}", reply.codes(), stage.as_str());
    let transient = |error: String| Verdict::Transient { error, retry_after: None };
    let verdict = if reply.is_transient() && stage == Stage::Recipient && reply.code != 421 {
        // a full mailbox, greylisting: nothing that the next recipient would be told as well
        Verdict::Deferred { error, retry_after: None }
    } else if reply.is_transient() {
        transient(error)
    } else if reply.is_positive() {
        transient(format!("{error}, where that has no place"))
    } else if is_of_the_settings(stage, reply) {
        // every other mail is refused just so, until somebody has mended the settings
        transient(format!("{error}: the service may not send by it; see its log-in and the sender's address"))
    } else if stage == Stage::Recipient && is_dead(reply) {
        Verdict::Gone { error: format!("{error}: there is no such address") }
    } else {
        Verdict::Permanent { error }
    };
    Answer::of(verdict, status_code)
}

/// Whether the service was refused and not the mail: whatever comes before the recipient, but for the size of the mail
/// and for the addresses' alphabet, and whatever is about logging in (RFC 4954).
fn is_of_the_settings(stage: Stage, reply: &Reply) -> bool {
    let is_of_the_mail = reply.code == 552 || matches!(reply.enhanced(), Some("5.2.3" | "5.3.4" | "5.6.7"));
    matches!(reply.code, 530 | 534 | 535 | 538)
        || (matches!(stage, Stage::Reset | Stage::Sender) && !is_of_the_mail)
}

/// Bad mailbox, bad system, null MX (RFC 3463, RFC 7505).
fn is_dead(reply: &Reply) -> bool {
    matches!(reply.enhanced(), Some("5.1.1" | "5.1.2" | "5.1.10"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(stage: Stage, code: u16, text: &str) -> Answer {
        of(stage, &Reply { code, lines: vec![text.to_owned()] })
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
                Verdict::Delivered => ("delivered", ""),
                Verdict::Transient { error, .. } => ("transient", error.as_str()),
                Verdict::Deferred { error, .. } => ("deferred", error.as_str()),
                Verdict::Permanent { error } => ("permanent", error.as_str()),
                Verdict::Gone { error } => ("gone", error.as_str()),
                Verdict::Throttled { .. } => ("throttled", ""),
                Verdict::LocalFault => ("local fault", ""),
            };
            assert_eq!(found, kind, "{stage:?} {code} {text}: {error}");
            assert!(!error.contains("x@y.z"), "{error}");
            assert!(kind == "delivered" || error.contains(&code.to_string()), "{error}");
        }
        assert_eq!(judged(Content, 250, "Ok: queued as 12AB").provider_id.as_deref(), Some("12AB"));
    }
}
