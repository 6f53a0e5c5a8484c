//! Reads the replies of a mail server (RFC 5321, 4.2), with bounded memory.

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest line of a reply. RFC 5321, 4.5.3.1.5 has 512; servers may exceed that, within bounds.
const LONGEST_LINE: usize = 2048;
/// The most lines of one reply.
const MOST_LINES: usize = 100;
const LONGEST_PROVIDER_ID: usize = 100;

/// The reason why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoReply {
    /// The connection ended or broke.
    Closed,
    /// The bytes received are not an SMTP reply, or exceed its bounds.
    Garbage,
}

impl NoReply {
    /// The reason, for an error.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "the connection was closed",
            Self::Garbage => "it did not reply in SMTP",
        }
    }
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SmtpReply {
    /// From 200 to 599.
    pub(super) code: u16,
    /// The text after the codes. It may contain addresses: not for errors and logs.
    pub(super) lines: Vec<String>,
}

impl SmtpReply {
    /// Returns true for success and for a request to continue.
    pub(super) fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Returns true if another attempt may succeed.
    pub(super) fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// The enhanced status code (RFC 3463), such as `5.1.1`.
    pub(super) fn enhanced(&self) -> Option<&str> {
        let word = self.lines.first()?.split(' ').next()?;
        let mut parts = word.split('.');
        let class = parts.next()?;
        let is_number =
            |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        let is_whole = parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number);
        let is_class = matches!(class, "2" | "4" | "5") && class.parse() == Ok(self.code / 100);
        (is_class && is_whole && parts.next().is_none()).then_some(word)
    }

    /// The status codes, for an error.
    pub(super) fn codes(&self) -> String {
        match self.enhanced() {
            Some(enhanced) => format!("{} {enhanced}", self.code),
            None => self.code.to_string(),
        }
    }

    /// The id under which the server queued the mail: after `queued as` (Postfix), after `id=` (Exim), or alone after
    /// `Ok` (Amazon SES).
    pub(super) fn queue_id(&self) -> Option<String> {
        let is_id = |word: &&str| {
            (1..=LONGEST_PROVIDER_ID).contains(&word.len())
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+=/".contains(&b))
        };
        let of_line = |line: &str| {
            let named = line.split_once("queued as ").or_else(|| line.split_once("id="));
            let word = match named {
                Some((_, rest)) => rest.split([' ', ',', ';']).next()?.trim_end_matches('.'),
                None => {
                    let mut words = line.split(' ').skip_while(|word| word.starts_with("2."));
                    let is_ok = words.next()?.eq_ignore_ascii_case("ok");
                    words.next().filter(|_| is_ok && words.next().is_none())?
                }
            };
            Some(word).filter(is_id).map(str::to_owned)
        };
        self.lines.iter().find_map(|line| of_line(line))
    }
}

/// Bytes that were received and not parsed yet.
#[derive(Debug, Default)]
pub(super) struct ReplyBuffer(Vec<u8>);

impl ReplyBuffer {
    /// Returns true if it is empty, as it must be after the last reply.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the next reply.
    ///
    /// # Errors
    /// The reason why there is none. No later call succeeds either.
    pub(super) async fn reply(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<SmtpReply, NoReply> {
        let mut code = None;
        let mut lines = Vec::new();
        loop {
            let line = self.line(from).await?;
            let (of_line, is_last, text) = parsed(&line).ok_or(NoReply::Garbage)?;
            if *code.get_or_insert(of_line) != of_line || lines.len() == MOST_LINES {
                return Err(NoReply::Garbage);
            }
            lines.push(text);
            if is_last {
                return Ok(SmtpReply { code: of_line, lines });
            }
        }
    }

    async fn line(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, NoReply> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.0.iter().skip(seen).position(|byte| *byte == b'\n') {
                let end = seen.saturating_add(at);
                if end > LONGEST_LINE {
                    return Err(NoReply::Garbage);
                }
                let mut line: Vec<u8> = self.0.drain(..=end).collect();
                line.pop();
                line.pop_if(|byte| *byte == b'\r');
                return Ok(line);
            }
            seen = self.0.len();
            if seen > LONGEST_LINE {
                return Err(NoReply::Garbage);
            }
            if !matches!(from.read_buf(&mut self.0).await, Ok(1..)) {
                return Err(NoReply::Closed);
            }
        }
    }
}

/// Parses a line into the code, true if it is the last line of the reply, and the text.
fn parsed(line: &[u8]) -> Option<(u16, bool, String)> {
    let (code, rest) = line.split_at_checked(3)?;
    let code: u16 = std::str::from_utf8(code).ok().filter(|code| !code.starts_with('+'))?.parse().ok()?;
    if !(200..600).contains(&code) {
        return None;
    }
    let (is_last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return None,
    };
    Some((code, is_last, String::from_utf8_lossy(text).into_owned()))
}

#[cfg(test)]
mod tests;
