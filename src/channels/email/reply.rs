//! What a mail server answers (RFC 5321, 4.2), read with bounds.

use tokio::io::{AsyncRead, AsyncReadExt};

/// RFC 5321, 4.5.3.1.5 has 512; a server may say more than is wise, but not forever.
const LONGEST_LINE: usize = 2048;
/// Of one answer.
const MOST_LINES: usize = 100;
const LONGEST_PROVIDER_ID: usize = 100;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoReply {
    /// The connection ended or broke.
    Closed,
    /// What came is no answer of a mail server, or longer than one.
    Garbage,
}

impl NoReply {
    /// For an error.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "the connection was closed",
            Self::Garbage => "what came is no answer of SMTP",
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// From 200 to 599.
    pub(super) code: u16,
    /// What stands behind the codes. May have addresses in it: not for errors and logs.
    pub(super) lines: Vec<String>,
}

impl Reply {
    /// Whether it was done, or is to go on.
    pub(super) fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Whether another attempt may be answered otherwise.
    pub(super) fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// The code that says more (RFC 3463), such as `5.1.1`.
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

    /// The codes, for an error.
    pub(super) fn codes(&self) -> String {
        match self.enhanced() {
            Some(enhanced) => format!("{} {enhanced}", self.code),
            None => self.code.to_string(),
        }
    }

    /// By which name the server keeps a mail that it took: behind `queued as` (Postfix), `id=` (Exim), or alone behind
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

/// Bytes that came and are not read yet.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    /// Whether there is nothing in it: after the last answer there must not be.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next answer.
    ///
    /// # Errors
    /// Why there is none. There will be none after that either.
    pub(super) async fn reply(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<Reply, NoReply> {
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
                return Ok(Reply { code: of_line, lines });
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

/// The code, whether the answer ends with this line, and the text.
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
