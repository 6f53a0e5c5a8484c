//! Commands that run the programs installed by `scripts/setup-kafka`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};

use super::PATIENCE;

/// The hint for a missing program.
pub(super) const INSTALLS: &str = "scripts/setup-test installs it";

/// Returns the folder that `scripts/setup-kafka` created.
pub(super) fn installed() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/setup-kafka");
        let output = Command::new(script).output().expect("scripts/setup-kafka");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end())
    })
}

/// Returns the command of a JVM with Kafka's classes that ends with this thread. The caller adds a class and arguments.
pub(super) fn jvm(options: &[&str]) -> Command {
    let installed = installed();
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(format!("-XX:SharedArchiveFile={}", installed.join("classes.jsa").display()))
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .args(options)
        .arg("-cp")
        .arg(installed.join("lib/*"));
    command
}

/// Copies a folder and its contents.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder to copy") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copied file");
        }
    }
}

/// Runs a command to completion with this standard input and returns its output. Panics when it fails or takes longer
/// than a minute.
pub(super) fn run(what: &str, command: &mut Command, input: &[u8]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{what}: {e}; {INSTALLS}"));
    let mut stdin = child.stdin.take().expect("its input");
    let input = input.to_vec();
    // concurrently with reading the output: both may exceed the capacity of a pipe
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let pid = child.id().to_string();
    let (done, is_done) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    });
    let output = child.wait_with_output().expect("its output");
    drop(done);
    watchdog.join().expect("the watchdog");
    let written = writer.join().expect("the writer");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && written.is_ok(), "{what}: {}: {out}{err}", output.status);
    out.into_owned()
}
