//! The commands that migrate the schema up and down.

use std::process::Command;

use crate::on_each_database;
use crate::support::{Service, TestDb};

/// Runs `fanfare migrate` with these arguments. Returns true if it succeeded, and its output.
fn migrate(url: &str, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    for variable in fanfare::config::variables() {
        command.env_remove(variable);
    }
    let dir = tempfile::tempdir().expect("a folder");
    let command = command.current_dir(dir.path()).env("DATABASE_URL", url).env("LOG_LEVEL", "error");
    let output = command.arg("migrate").args(words).output().expect("the program");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), said(&output.stdout) + &said(&output.stderr))
}

/// Returns the names of all migrations, the oldest first.
fn names() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite");
    let entries =
        std::fs::read_dir(folder).expect("migrations").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("a name")).collect();
    names.sort();
    names
}

on_each_database! {
    async fn migrations_are_undone_one_by_one_or_down_to_one_and_run_again(kind: Database) {
        let (database, names) = (TestDb::new(kind), names());
        let run = |words: &[&str]| {
            let (is_done, said) = migrate(&database.url, words);
            assert!(is_done, "{words:?}: {said}");
            said
        };
        let all = names.len();
        assert!(run(&["status"]).ends_with(&format!("0 of {all} migrations are applied\n")));
        run(&[]);
        let last = format!("reverted: {}\n", names[all - 1]);
        let said = run(&["down"]);
        assert!(said.starts_with(&last) && said.contains(&format!("{} of {all} migrations are applied", all - 1)), "{said}");
        assert!(run(&["status"]).contains(&format!("{all:>4}  pending  {}\n", names[all - 1])));
        let said = run(&["down", "--to", "3"]);
        let undone: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("reverted: ")).collect();
        let expected: Vec<&str> = names[3..all - 1].iter().rev().map(String::as_str).collect();
        assert_eq!(undone, expected);
        run(&["up"]);
        assert!(run(&["down", "--to", &names[4]]).contains(&format!("5 of {all} migrations are applied")));
        assert!(run(&["down", "--to", &names[4]]).starts_with("nothing to revert\n"));
        assert!(run(&["down", "--to", "0"]).contains(&format!("0 of {all} migrations are applied")));
        run(&["up"]);
        for wrong in ["1000", "2099-12-31-000000", "yesterday"] {
            let (is_done, said) = migrate(&database.url, &["down", "--to", wrong]);
            assert!(!is_done && said.contains("--to"), "{wrong}: {said}");
        }
        assert!(run(&["status"]).ends_with(&format!("{all} of {all} migrations are applied\n")));
    }
}

on_each_database! {
    async fn nothing_is_undone_while_a_service_uses_the_database(kind: Database) {
        let mut service = Service::start(kind).await;
        let (is_done, said) = migrate(&service.db.url, &["down"]);
        assert!(!is_done && said.contains("stop"), "{said}");
        let (_, said) = migrate(&service.db.url, &["status"]);
        assert!(!said.contains("pending"), "{said}");
        service.stop().await;
        let (is_done, said) = migrate(&service.db.url, &["down"]);
        assert!(is_done && said.starts_with("reverted: "), "{said}");
    }
}
