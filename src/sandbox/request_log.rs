//! The file in which the sandbox writes down what it received, for tests that outlive it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

/// One line of the log. The text stays out: it may be personal, and the ids tell all that is asked.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    pub(super) at_us: u64,
    pub(super) id: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) phone: Option<u64>,
    pub(super) outcome: &'static str,
}

/// An append-only file with a JSON line per request.
#[derive(Debug)]
pub(super) struct RequestLog(File);

impl RequestLog {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        File::options().create(true).append(true).open(path).map(Self)
    }

    /// Appends a line and returns when the operating system has it: whoever reads the file after the answer
    /// finds the line, even if the sandbox is killed in between. It is one write to the page cache, a
    /// microsecond or two, which a thread to hand it to would cost as well. Not synced to disk: a power cut
    /// is no part of what it is for.
    pub(super) fn append(&self, line: &Line<'_>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(192);
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
        (&self.0).write_all(&bytes)
    }
}
