//! A PostgreSQL server that a test may crash. It is started by `scripts/with-postgres`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A server that stops when the value is dropped.
pub struct Postgres {
    /// The value for `DATABASE_URL`.
    pub url: String,
    keeper: Child,
    is_frozen: bool,
    /// The keeper's standard input. Closing it ends the keeper and its server.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Postgres {
    /// Starts a server.
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/with-postgres");
        let mut keeper = Command::new(script)
            .arg("--keep")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // signals to the test process must not reach the keeper: it still has files to remove
            .process_group(0)
            .spawn()
            .expect("a keeper");
        let orders = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().expect("its answers"));
        let mut postgres = Self { url: String::new(), keeper, is_frozen: false, orders, answers };
        postgres.url = format!("{}?{}", postgres.answer(), super::PLAIN);
        postgres
    }

    /// Ends the server's processes without a checkpoint, as `pg_ctl stop -m immediate` does.
    pub fn crash(&mut self) {
        self.order("crash");
    }

    /// Restarts the server at the same address. It has recovered and accepts connections when this returns.
    pub fn start_again(&mut self) {
        self.order("start");
    }

    /// Stops all processes of the server until [`Postgres::thaw`]: the operating system still accepts connections and
    /// bytes, but no response comes.
    pub fn freeze(&mut self) {
        self.is_frozen = true;
        self.signal("-STOP");
    }

    /// Resumes the stopped processes.
    pub fn thaw(&mut self) {
        self.is_frozen = false;
        self.signal("-CONT");
    }

    /// Signals the main process first, because it starts others.
    fn signal(&self, signal: &str) {
        let mut processes = vec![self.keeper.id()];
        let mut next = 0;
        while let Some(process) = processes.get(next).copied() {
            next += 1;
            let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
            let children: Vec<u32> =
                children.unwrap_or_default().split_whitespace().filter_map(|id| id.parse().ok()).collect();
            let is_server = |id: &u32| {
                std::fs::read_to_string(format!("/proc/{id}/comm"))
                    .is_ok_and(|name| name.trim() == "postgres")
            };
            for child in children.into_iter().filter(is_server) {
                // this fails if the child has ended in the meantime
                let _ = Command::new("kill").args([signal, &child.to_string()]).status();
                processes.push(child);
            }
        }
        assert!(processes.len() > 1, "no processes of the server were found");
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("a keeper that listens");
        writeln!(orders, "{order}").expect("a keeper that listens");
        assert_eq!(self.answer(), format!("{order}: done"));
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.is_frozen {
            self.thaw();
        }
        drop(self.orders.take());
        // the keeper waits for the server's end; a drop cannot report a failure
        let _ = self.keeper.wait();
    }
}
