//! Writes a mail (RFC 5322, MIME), so that nothing in a text, a subject or an address becomes more than it is.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::Message;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use super::address::{mailbox, parse_mailbox};
use super::settings::Settings;
use crate::address::email::EmailAddress;
use crate::channels::Delivery;
use crate::clock::Clock;
use crate::error::{Error, Result};

/// Of an encoded word with its frame (RFC 2047, 2), less the frame `=?utf-8?b?…?=` and rounded down to whole triples.
const BYTES_IN_WORD: usize = 45;
/// A subject is not folded; RFC 5322 asks for lines of no more than 78 characters.
const PLAIN_SUBJECT: usize = 66;
/// Without its end (RFC 5322, 2.1.1; RFC 5321, 4.5.3.1.6).
const LONGEST_LINE: usize = 998;
/// For the line of its header not to become longer.
const LONGEST_UNSUBSCRIBE_URL: usize = 800;
const ID: &str = "{id}";
/// As long as every message's.
const LONG_ID: &str = "00000000-0000-0000-0000-000000000000";

/// A mail that is ready to be handed to a server.
pub(super) struct Mail {
    /// Whom it is from: the address to which a server reports.
    pub(super) from: EmailAddress,
    /// Whom it goes to.
    pub(super) to: EmailAddress,
    /// Header and body; every line ends in CRLF, and there is no other CR and LF.
    pub(super) content: Vec<u8>,
}

/// Knows what all mails have in common.
pub(super) struct Composer {
    from: EmailAddress,
    sender: Mailbox,
    reply_to: Option<Mailbox>,
    unsubscribe_url: Option<String>,
    clock: Clock,
}

impl Composer {
    /// As the settings say.
    ///
    /// # Errors
    /// [`Error::Invalid`] names what of them cannot be used.
    pub(super) fn new(settings: &Settings, clock: Clock) -> Result<Self> {
        let (from, sender) =
            parse_mailbox(&settings.from).map_err(|why| Error::invalid("email.from (SMTP_FROM)", why))?;
        let reply_to = settings.reply_to.as_deref().map(parse_mailbox).transpose();
        let reply_to = reply_to.map_err(|why| Error::invalid("email.reply_to (SMTP_REPLY_TO)", why))?;
        let unsubscribe_url = settings.unsubscribe_url.clone();
        if !unsubscribe_url.as_deref().is_none_or(is_unsubscribe_url) {
            return Err(Error::invalid(
                "email.unsubscribe_url (UNSUBSCRIBE_URL)",
                "must be an https URL with {id} where the message's id belongs, in ASCII",
            ));
        }
        Ok(Self { from, sender, reply_to: reply_to.map(|(_, mailbox)| mailbox), unsubscribe_url, clock })
    }

    /// The mail of this delivery.
    ///
    /// # Errors
    /// What of it cannot be in a mail, without repeating it. Another attempt would not mend it.
    pub(super) fn compose(&self, delivery: &Delivery) -> Result<Mail, &'static str> {
        let to =
            EmailAddress::parse(&delivery.recipient).map_err(|_| "the recipient is no e-mail address")?;
        let recipient = mailbox(&to, None).map_err(|_| "the recipient is no e-mail address")?;
        let id = delivery.id.to_string();
        let mut message = Message::builder()
            .from(self.sender.clone())
            .to(recipient)
            .date(self.clock.now().datetime().into())
            .message_id(Some(format!("<{id}@{}>", self.from.domain())));
        if let Some(reply_to) = &self.reply_to {
            message = message.reply_to(reply_to.clone());
        }
        if let Some(subject) = &delivery.subject {
            if subject.chars().any(char::is_control) {
                return Err("the subject has a line break or another control character");
            }
            message = message.header(Subject(subject.clone()));
        }
        if let Some(url) = self.unsubscribe_url(delivery, &id) {
            message = message.header(ListUnsubscribe(format!("<{url}>"))).header(ListUnsubscribePost);
        }
        if delivery.is_bulk {
            // vacation programs leave it alone (RFC 3834, 2)
            message = message.header(Precedence);
        } else {
            message = message.header(AutoSubmitted);
        }
        let text = lines(&delivery.text)?;
        let message = match &delivery.html {
            Some(html) => message
                .multipart(MultiPart::alternative_plain_html(text.into_owned(), lines(html)?.into_owned())),
            None => message.singlepart(SinglePart::plain(text.into_owned())),
        };
        let message = message.map_err(|_| "the builder of mails refuses it")?;
        let mut content = message.formatted();
        if !content.ends_with(b"\r\n") {
            content.extend_from_slice(b"\r\n");
        }
        if !is_sound(&content) {
            return Err("it has a line that mail servers do not take");
        }
        Ok(Mail { from: self.from.clone(), to, content })
    }

    /// Where the recipient unsubscribes: RFC 8058 allows one such URL, and the service's own comes first.
    fn unsubscribe_url(&self, delivery: &Delivery, id: &str) -> Option<String> {
        let theirs = self.unsubscribe_url.as_ref().filter(|_| delivery.is_bulk);
        delivery.unsubscribe.clone().or_else(|| theirs.map(|url| url.replace(ID, id)))
    }
}

/// With line feeds alone between the lines: the builder makes CRLF of them, and would leave a CR without LF as it is,
/// by which some servers see the end of the mail where there is none (CVE-2023-51764).
fn lines(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if text.contains('\0') {
        return Err("the text has a zero byte");
    }
    if text.contains('\r') {
        return Ok(text.replace("\r\n", "\n").replace('\r', "\n").into());
    }
    Ok(text.into())
}

/// Whether a server takes every line: CR and LF only together (RFC 5321, 2.3.8), no line too long, no zero byte.
fn is_sound(content: &[u8]) -> bool {
    let (mut length, mut is_after_cr) = (0_usize, false);
    let are_good = content.iter().all(|byte| {
        let is_good = match (*byte, is_after_cr) {
            (b'\n', true) => {
                length = 0;
                true
            }
            (b'\n', false) | (_, true) | (b'\0', _) => false,
            (b'\r', false) => true,
            _ => {
                length = length.saturating_add(1);
                length <= LONGEST_LINE
            }
        };
        is_after_cr = *byte == b'\r';
        is_good
    });
    are_good && content.ends_with(b"\r\n")
}

/// Whether it is an https URL that can stand in a header as it is, and holds the message's id.
fn is_unsubscribe_url(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b','));
    let full = text.replace(ID, LONG_ID);
    let url = url::Url::parse(&full);
    let is_https = url.is_ok_and(|url| url.scheme() == "https" && url.has_host() && url.password().is_none());
    is_plain && is_https && text.contains(ID) && full.len() <= LONGEST_UNSUBSCRIBE_URL
}

/// The builder leaves a subject in ASCII as it is, however long its words are, and also if it reads like an encoded word.
#[derive(Clone)]
struct Subject(String);

impl Header for Subject {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Subject")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::dangerous_new_pre_encoded(Self::name(), self.0.clone(), encoded(&self.0))
    }
}

/// As it is, if that is plain; in encoded words, one on each line (RFC 2047), otherwise.
fn encoded(subject: &str) -> String {
    let is_plain = subject.len() <= PLAIN_SUBJECT
        && subject.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && subject.trim() == subject
        && !subject.contains("=?");
    if is_plain {
        return subject.to_owned();
    }
    let mut text = String::with_capacity(subject.len().saturating_mul(2));
    let mut rest = subject;
    while !rest.is_empty() {
        // a character is never parted
        let (word, after) = rest.split_at(rest.floor_char_boundary(BYTES_IN_WORD));
        text.push_str(if text.is_empty() { "=?utf-8?b?" } else { "\r\n =?utf-8?b?" });
        BASE64.encode_string(word, &mut text);
        text.push_str("?=");
        rest = after;
    }
    text
}

/// A header that says one thing, or a thing that needs no encoding.
macro_rules! header {
    ($name:ident $(($field:ty))?, $header:literal, |$this:ident| $value:expr) => {
        #[derive(Clone)]
        struct $name $(($field))?;

        impl Header for $name {
            fn name() -> HeaderName {
                HeaderName::new_from_ascii_str($header)
            }

            fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Err("is only written".into())
            }

            fn display(&self) -> HeaderValue {
                let $this = self;
                let value = String::from($value);
                HeaderValue::dangerous_new_pre_encoded(Self::name(), value.clone(), value)
            }
        }
    };
}

header!(ListUnsubscribe(String), "List-Unsubscribe", |this| this.0.as_str());
header!(ListUnsubscribePost, "List-Unsubscribe-Post", |_this| "List-Unsubscribe=One-Click");
header!(Precedence, "Precedence", |_this| "bulk");
header!(AutoSubmitted, "Auto-Submitted", |_this| "auto-generated");

#[cfg(test)]
mod tests;
