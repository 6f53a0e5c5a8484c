//! The file in which the sandbox records the requests it received, for tests that outlive it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::channel::Channel;
use super::message::{Api, Message, SendRequest};
use super::stats::RequestOutcome;

/// A line of the log, with the parsed parts of the body. The text is left out: it may be personal, and the ids are all
/// that is needed.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Line<'a> {
    Text {
        at_us: u64,
        id: &'a str,
        key: Option<&'a str>,
        phone: Option<u64>,
        outcome: &'static str,
    },
    Notification {
        at_us: u64,
        id: &'a str,
        key: Option<&'a str>,
        channel: Option<Channel>,
        recipient: Option<&'a str>,
        outcome: &'static str,
    },
}

impl<'a> Line<'a> {
    pub(super) fn new(
        at_us: u64,
        request: &SendRequest<'a>,
        message: Option<&'a Message<'a>>,
        outcome: RequestOutcome,
    ) -> Self {
        let (id, key, outcome) = (request.path_id, request.key, outcome.as_str());
        match (request.api, message) {
            (_, Some(Message::Text(text))) => Self::Text { at_us, id, key, phone: Some(text.phone), outcome },
            (_, Some(Message::Notification(it))) => {
                let (channel, recipient) = (Some(it.channel), Some(it.recipient.as_ref()));
                Self::Notification { at_us, id, key, channel, recipient, outcome }
            }
            (Api::Send, None) => Self::Text { at_us, id, key, phone: None, outcome },
            (Api::Notify, None) => {
                Self::Notification { at_us, id, key, channel: None, recipient: None, outcome }
            }
        }
    }
}

/// An append-only file with a JSON line per request.
#[derive(Debug)]
pub(super) struct RequestLog(File);

impl RequestLog {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        File::options().create(true).append(true).open(path).map(Self)
    }

    /// Appends a line, and returns once the operating system has it: a reader finds the line after the response, even
    /// if the sandbox is killed in between. It is one write to the page cache, a microsecond or two, which is the cost
    /// of handing it to a thread. It is not synced to disk, since the log does not have to survive a power cut.
    pub(super) fn append(&self, line: &Line<'_>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(192);
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
        (&self.0).write_all(&bytes)
    }
}
