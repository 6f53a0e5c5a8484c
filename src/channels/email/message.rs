//! Builds a mail (RFC 5322, MIME). A text, a subject or an address cannot inject headers or end the mail early.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::Message;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use super::address::{mailbox, parse_mailbox};
use super::settings::SmtpSettings;
use crate::address::email::EmailAddress;
use crate::channels::delivery::Delivery;
use crate::clock::Clock;
use crate::error::{Error, Result};

/// Bytes per encoded word (RFC 2047, 2): the limit less the frame `=?utf-8?b?…?=`, rounded down to whole triples.
const BYTES_IN_WORD: usize = 45;
/// The longest subject that is not encoded. It is not folded, and RFC 5322 asks for lines of at most 78 characters.
const PLAIN_SUBJECT: usize = 66;
/// The longest line without its end (RFC 5322, 2.1.1; RFC 5321, 4.5.3.1.6).
const LONGEST_LINE: usize = 998;
/// Keeps the header's line below the limit.
const LONGEST_UNSUBSCRIBE_URL: usize = 800;
const ID: &str = "{id}";
/// A placeholder that is as long as every message id.
const LONG_ID: &str = "00000000-0000-0000-0000-000000000000";

/// A mail that is ready to send.
pub(super) struct Mail {
    /// The envelope sender, to which servers report failures.
    pub(super) from: EmailAddress,
    /// The recipient.
    pub(super) to: EmailAddress,
    /// Header and body. Every line ends in CRLF, and neither CR nor LF occurs elsewhere.
    pub(super) content: Vec<u8>,
}

/// Builds mails; holds the parts that all of them share.
pub(super) struct Composer {
    from: EmailAddress,
    sender: Mailbox,
    reply_to: Option<Mailbox>,
    unsubscribe_url: Option<String>,
    clock: Clock,
}

impl Composer {
    /// Creates a composer from the settings.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the setting that cannot be used.
    pub(super) fn new(settings: &SmtpSettings, clock: Clock) -> Result<Self> {
        let (from, sender) =
            parse_mailbox(&settings.from).map_err(|why| Error::invalid("email.from (SMTP_FROM)", why))?;
        let reply_to = settings.reply_to.as_deref().map(parse_mailbox).transpose();
        let reply_to = reply_to.map_err(|why| Error::invalid("email.reply_to (SMTP_REPLY_TO)", why))?;
        let unsubscribe_url = settings.unsubscribe_url.clone();
        if !unsubscribe_url.as_deref().is_none_or(is_unsubscribe_url) {
            return Err(Error::invalid(
                "email.unsubscribe_url (UNSUBSCRIBE_URL)",
                "must be an https URL in ASCII, with {id} in place of the message's id",
            ));
        }
        Ok(Self { from, sender, reply_to: reply_to.map(|(_, mailbox)| mailbox), unsubscribe_url, clock })
    }

    /// Builds the mail for this delivery.
    ///
    /// # Errors
    /// The part that a mail cannot contain, without repeating it. Another attempt would not fix it.
    pub(super) fn compose(&self, delivery: &Delivery) -> Result<Mail, &'static str> {
        let to =
            EmailAddress::parse(&delivery.recipient).map_err(|_| "the recipient is not an e-mail address")?;
        let recipient = mailbox(&to, None).map_err(|_| "the recipient is not an e-mail address")?;
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
            // vacation programs ignore it (RFC 3834, 2)
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
        let message = message.map_err(|_| "the mail could not be built")?;
        let mut content = message.formatted();
        if !content.ends_with(b"\r\n") {
            content.extend_from_slice(b"\r\n");
        }
        if !is_sound(&content) {
            return Err("it has a line that mail servers do not accept");
        }
        Ok(Mail { from: self.from.clone(), to, content })
    }

    /// Returns the recipient's unsubscribe URL. RFC 8058 allows one; the service's own takes precedence.
    fn unsubscribe_url(&self, delivery: &Delivery, id: &str) -> Option<String> {
        let theirs = self.unsubscribe_url.as_ref().filter(|_| delivery.is_bulk);
        delivery.unsubscribe.clone().or_else(|| theirs.map(|url| url.replace(ID, id)))
    }
}

/// Converts all line ends to LF. The builder turns LF into CRLF, but would keep a lone CR, which some servers take for
/// the end of the mail (CVE-2023-51764).
fn lines(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if text.contains('\0') {
        return Err("the text has a zero byte");
    }
    if text.contains('\r') {
        return Ok(text.replace("\r\n", "\n").replace('\r', "\n").into());
    }
    Ok(text.into())
}

/// Returns true if a server accepts every line: CR and LF only together (RFC 5321, 2.3.8), no line too long, no NUL
/// byte.
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

/// Returns true for an https URL that a header can contain unencoded and that includes the message's id.
fn is_unsubscribe_url(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b','));
    let full = text.replace(ID, LONG_ID);
    let url = url::Url::parse(&full);
    let is_https = url.is_ok_and(|url| url.scheme() == "https" && url.has_host() && url.password().is_none());
    is_plain && is_https && text.contains(ID) && full.len() <= LONGEST_UNSUBSCRIBE_URL
}

/// A `Subject` header. The builder would leave an ASCII subject unencoded even if it has long words or looks like an
/// encoded word.
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

/// Returns a plain subject unchanged, any other in encoded words, one a line (RFC 2047).
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
        // never splits a character
        let (word, after) = rest.split_at(rest.floor_char_boundary(BYTES_IN_WORD));
        text.push_str(if text.is_empty() { "=?utf-8?b?" } else { "\r\n =?utf-8?b?" });
        BASE64.encode_string(word, &mut text);
        text.push_str("?=");
        rest = after;
    }
    text
}

/// Defines a header with a fixed value, or with a value that needs no encoding.
macro_rules! header {
    ($name:ident $(($field:ty))?, $header:literal, |$this:ident| $value:expr) => {
        #[derive(Clone)]
        struct $name $(($field))?;

        impl Header for $name {
            fn name() -> HeaderName {
                HeaderName::new_from_ascii_str($header)
            }

            fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Err("this header is never parsed".into())
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
