//! Programs of `tests/peers`, started for one test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A program that runs until the test ends.
pub struct Peer {
    child: Child,
    /// The first line that it wrote: the address on which it listens.
    pub ready: String,
    lines: BufReader<std::process::ChildStdout>,
}

impl Peer {
    /// Starts `tests/peers/{script}` with these arguments, and waits for its first line.
    pub fn python(script: &str, args: &[&str]) -> Self {
        let python = Command::new(format!("{ROOT}/scripts/setup-peers")).stderr(Stdio::inherit()).output();
        let python = python.unwrap();
        assert!(python.status.success(), "scripts/setup-peers failed");
        let python = String::from_utf8(python.stdout).unwrap();
        let mut command = Command::new(python.trim());
        command.arg("-u").arg(format!("{ROOT}/tests/peers/{script}")).args(args);
        Self::start(command)
    }

    /// Starts a program, and waits for its first line.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        lines.read_line(&mut ready).unwrap();
        assert!(!ready.is_empty(), "the peer ended before it was ready: {command:?}");
        Self { child, ready: ready.trim().to_owned(), lines }
    }

    /// Returns the next line that it writes.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
