//! Reads the head of a response leniently: the status counts even if the header fields are malformed.
//!
//! hyper refuses a whole response for one bad header line or length, and an accepted message would be sent again. So a
//! head that is not strictly HTTP/1.1 is rewritten before hyper reads it: folded lines are joined, control characters
//! become spaces, and lines that are not fields are dropped. An unreadable length is dropped too; the body then ends
//! with the connection, which is not reused.

use hyper::StatusCode;

/// The most fields kept in a rewritten head; hyper accepts up to a hundred.
const MOST_FIELDS: usize = 90;
/// Fields that are always kept, since the service reads them.
const ALWAYS_KEPT: [&str; 6] =
    ["content-length", "transfer-encoding", "connection", "content-type", "location", "retry-after"];
/// The most fields of a head that is passed to hyper unchanged.
const FEW_FIELDS: usize = 24;

/// Returns true if `bytes` begin with a complete head that hyper reads unchanged, and which is not an interim one
/// (1xx).
pub(super) fn is_strict(bytes: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; FEW_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    if !matches!(head.parse(bytes), Ok(httparse::Status::Complete(_)))
        || head.code.is_none_or(|code| code < 200)
    {
        return false;
    }
    let mut length = None;
    head.headers.iter().all(|field| {
        if field.name.eq_ignore_ascii_case("content-length") {
            let is_first = length.replace(field.value).is_none();
            is_first && parse_length(field.value).is_some()
        } else {
            head.version == Some(1) || !field.name.eq_ignore_ascii_case("transfer-encoding")
        }
    })
}

/// Finds the end of heads that arrive in pieces.
#[derive(Debug, Default)]
pub(super) struct EndFinder {
    searched: usize,
    line: usize,
    has_status: bool,
}

impl EndFinder {
    /// Returns the length of the head in `bytes` once its empty line has arrived. `bytes` must extend those of the
    /// previous call.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(at) = bytes.get(self.searched..)?.iter().position(|&byte| byte == b'\n') {
            let end = self.searched + at;
            let is_empty = bytes.get(self.line..end)?.iter().all(|&byte| byte == b'\r');
            (self.searched, self.line) = (end + 1, end + 1);
            if is_empty && self.has_status {
                return Some(end + 1);
            }
            self.has_status |= !is_empty;
        }
        self.searched = bytes.len();
        None
    }
}

/// A rewritten head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rewritten {
    /// A head that hyper can read.
    Final(Vec<u8>),
    /// An interim head (1xx), which is skipped.
    Interim,
    /// The first line is not a status line.
    NotHttp,
}

/// Rewrites a head strictly.
pub(super) fn rewrite(head: &[u8]) -> Rewritten {
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(trim_line_end)
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty());
    let Some((is_old, status)) = lines.next().and_then(parse_status_line) else { return Rewritten::NotHttp };
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Rewritten::Interim;
    }
    let mut fields = Fields::default();
    for line in lines {
        fields.add_line(line);
    }
    Rewritten::Final(fields.write(is_old, status))
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|&byte| byte != b'\r').map_or(0, |at| at + 1);
    line.get(..end).unwrap_or_default()
}

/// Returns true if the version is 1.0, and the status.
fn parse_status_line(line: &[u8]) -> Option<(bool, StatusCode)> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let version = words.next()?.strip_prefix(b"HTTP/")?;
    let status = StatusCode::from_bytes(words.next()?).ok()?;
    let is_version =
        version.first()?.is_ascii_digit() && version.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    is_version.then_some((version == b"1.0", status))
}

/// Parses a length (RFC 9110, 8.6), which may be repeated if all values are equal.
fn parse_length(value: &[u8]) -> Option<u64> {
    let mut all = value.split(|&byte| byte == b',').map(|one| {
        let one = one.trim_ascii();
        let is_number = !one.is_empty() && one.iter().all(u8::is_ascii_digit);
        // hyper reserves the highest numbers
        std::str::from_utf8(one)
            .ok()?
            .parse::<u64>()
            .ok()
            .filter(|&length| is_number && length < u64::MAX - 2)
    });
    let first = all.next()??;
    all.all(|one| one == Some(first)).then_some(first)
}

#[derive(Default)]
struct Fields {
    kept: Vec<(String, Vec<u8>)>,
    /// True after a field that was kept: the next line may continue it.
    is_open: bool,
}

impl Fields {
    fn add_line(&mut self, line: &[u8]) {
        let clean = |bytes: &[u8]| -> Vec<u8> {
            let is_control = |byte: u8| byte.is_ascii_control() && byte != b'\t';
            bytes.iter().map(|&byte| if is_control(byte) { b' ' } else { byte }).collect()
        };
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            if let Some((_, value)) = self.kept.last_mut().filter(|_| self.is_open) {
                value.push(b' ');
                value.extend_from_slice(clean(line).trim_ascii());
            }
            return;
        }
        self.is_open = false;
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = line.split_at(colon);
        let Ok(name) = hyper::header::HeaderName::from_bytes(name.trim_ascii()) else { return };
        let name = name.as_str();
        let is_new = || self.kept.iter().all(|(known, _)| known != name);
        if self.kept.len() < MOST_FIELDS || ALWAYS_KEPT.contains(&name) && is_new() {
            let value = clean(value.get(1..).unwrap_or_default());
            self.kept.push((name.to_owned(), value.trim_ascii().to_vec()));
            self.is_open = true;
        }
    }

    fn write(mut self, is_old: bool, status: StatusCode) -> Vec<u8> {
        let has = |fields: &Self, name: &str| fields.kept.iter().any(|(known, _)| known == name);
        let is_chunked = has(&self, "transfer-encoding");
        let lengths: Vec<_> = self
            .kept
            .iter()
            .filter(|(name, _)| name == "content-length")
            .map(|(_, value)| parse_length(value))
            .collect();
        let length = match lengths.split_first() {
            Some((first, rest)) if rest.iter().all(|one| one == first) => *first,
            _ => None,
        };
        let is_broken = !lengths.is_empty() && length.is_none();
        self.kept.retain(|(name, _)| name != "content-length");
        if is_broken || is_old && is_chunked {
            // the end of this response is unknown, so the connection cannot be reused
            self.kept.retain(|(name, _)| name != "connection");
            self.kept.push(("connection".into(), b"close".to_vec()));
        }
        if let Some(length) = length {
            self.kept.push(("content-length".into(), length.to_string().into_bytes()));
        }
        // HTTP/1.0 has no chunks, but some servers that announce it send them
        let version = if is_old && !is_chunked { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} {} \r\n", status.as_str()).into_bytes();
        for (name, value) in self.kept {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(&value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

#[cfg(test)]
mod tests;
