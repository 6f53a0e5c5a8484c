//! A PostgreSQL server of a test's own, to crash: the one that `scripts/with-postgres` would start.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A server that goes with the value.
pub struct Postgres {
    /// For `DATABASE_URL`.
    pub url: String,
    keeper: Child,
    is_frozen: bool,
    /// Closing them ends the keeper, and its server with it.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Postgres {
    /// Starts it.
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/with-postgres");
        let mut keeper = Command::new(script)
            .arg("--keep")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // a signal for the tests is none for it: it has files to remove
            .process_group(0)
            .spawn()
            .expect("a keeper");
        let orders = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().expect("its answers"));
        let mut postgres = Self { url: String::new(), keeper, is_frozen: false, orders, answers };
        postgres.url = format!("{}?{}", postgres.answer(), super::PLAIN);
        postgres
    }

    /// Its processes die without a checkpoint, as by `pg_ctl stop -m immediate`.
    pub fn crash(&mut self) {
        self.order("crash");
    }

    /// Starts it again at its address; it recovers, and takes connections when this returns.
    pub fn start_again(&mut self) {
        self.order("start");
    }

    /// All its processes stand still, until [`Postgres::thaw`]: its system takes connections and bytes, and nobody answers.
    pub fn freeze(&mut self) {
        self.is_frozen = true;
        self.signal("-STOP");
    }

    /// They go on.
    pub fn thaw(&mut self) {
        self.is_frozen = false;
        self.signal("-CONT");
    }

    /// The main process first: it starts others.
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
                // one that has ended by itself meanwhile is no loss
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
        // it waits for the server's end; there is nobody to tell if it has failed
        let _ = self.keeper.wait();
    }
}
