//! The files of the repository, for tests that read them.

use std::path::{Path, PathBuf};

/// A file or folder of the repository.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The text of a file of the repository.
pub fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Returns the Rust files below a folder, sorted.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the Rust files below a folder of the repository with their texts, each with its path from that folder.
pub fn rust_texts(folder: &str) -> Vec<(String, String)> {
    let root = path(folder);
    let relative =
        |path: &Path| path.strip_prefix(&root).expect("a path below the folder").display().to_string();
    let text = |path: &PathBuf| (relative(path), std::fs::read_to_string(path).expect("a source"));
    rust_files(&root).iter().map(text).collect()
}
