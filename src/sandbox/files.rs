//! Files of the sandbox, and errors that name them.

use std::io;
use std::path::Path;

/// Writes a file atomically: a reader sees all of it or none.
pub(super) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    std::fs::write(&temporary, format!("{text}\n"))?;
    std::fs::rename(&temporary, path)
}

/// Adds the operation to an I/O error, which names neither file nor address.
pub(super) fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
