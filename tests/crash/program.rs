//! Runs the checker as a program, on the rows and the log of a real mailing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::crash::campaign::{Campaign, closed, mail};

/// Returns the path of the program: the folder of the examples is beside that of the tests' binaries.
fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("this binary");
    let profile = tests.parent().and_then(Path::parent).expect("its profile's folder");
    let program = profile.join("examples/check_books");
    assert!(program.is_file(), "{} is not built: run the tests by `make test`", program.display());
    program
}

/// Runs it. Returns true if it found no violation, and its output.
fn check(url: &str, log: &Path) -> (bool, String) {
    let run = Command::new(program()).args(["--database", url, "--log"]).arg(log).output().expect("a run");
    (run.status.success(), String::from_utf8(run.stdout).expect("a report"))
}

crate::on_each_database! {
    async fn the_program_accepts_a_real_mailing_and_names_the_violations_of_a_doctored_log(kind: Database) {
        let mut campaign = Campaign::new(kind, &["--error-rate", "0.1"], &[]).await;
        let mut server = campaign.serve().await;
        let mailing = mail(&server, 100, Duration::from_secs(600)).await;
        closed(&server, &mailing, 0).await;
        server.process.terminate();
        server.process.ended().await;
        let log = campaign.db.dir().join("requests.jsonl");
        let (is_content, said) = check(&campaign.db.url, &log);
        assert!(is_content && said.contains("100 messages"), "{said}");

        let text = std::fs::read_to_string(&log).expect("the log");
        let received = text.lines().find(|line| line.contains("\"received\"")).expect("a message");
        let doctored = campaign.db.dir().join("doctored.jsonl");
        for (text, rule) in [
            (text.replace(&format!("{received}\n"), ""), "Received"),
            (format!("{text}{received}\n"), "Repeats"),
            (text.replacen("\"key\":\"", "\"key\":\"x", 1), "Identity"),
        ] {
            std::fs::write(&doctored, text).expect("a doctored log");
            let (is_content, said) = check(&campaign.db.url, &doctored);
            assert!(!is_content && said.contains(rule), "{rule}: {said}");
        }
    }
}
