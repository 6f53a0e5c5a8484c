//! The SQLite file: only one service uses it, and it stays in place.
//!
//! The lock is on the file itself, so it cannot be removed, and links to the file share it. A file beside it is also
//! locked, because earlier versions lock only that one.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};

/// The mode of the files: only the service's user may read them, since they contain texts and addresses.
const MODE: u32 = 0o600;

/// The identity of a file, which distinguishes files with the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl From<Metadata> for Identity {
    fn from(metadata: Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The file of a database, open as long as any connection to it: closing any descriptor of a file releases all POSIX
/// locks of the process on it, including SQLite's.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    file: File,
    identity: Identity,
    beside: OnceLock<File>,
}

impl DatabaseFile {
    /// Opens the file, and creates it if it does not exist; no other place creates it.
    pub(super) fn open(path: &Path) -> io::Result<Arc<Self>> {
        let file = create(path)?;
        let identity = file.metadata()?.into();
        Ok(Arc::new(Self { path: path.canonicalize()?, file, identity, beside: OnceLock::new() }))
    }

    /// Returns the path at which it was opened, without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the file is still at its path, or if that cannot be checked.
    pub(super) fn is_in_place(&self) -> bool {
        match self.path.metadata() {
            Ok(metadata) => Identity::from(metadata) == self.identity,
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }

    /// Locks the file for this process, as long as it is open.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another service has locked it.
    pub(super) fn lock(&self) -> Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".lock");
        let beside = create(Path::new(&name)).map_err(|e| Error::Unavailable(e.into()))?;
        for file in [&self.file, &beside] {
            file.try_lock().map_err(|why| match why {
                TryLockError::WouldBlock => Error::Conflict(format!(
                    "another fanfare process uses this database ({} is locked); stop it, or use PostgreSQL for \
                     several nodes",
                    self.path.display()
                )),
                TryLockError::Error(error) => {
                    Error::Unavailable(format!("cannot lock {}: {error}", self.path.display()).into())
                }
            })?;
        }
        // an error means that the lock is already held
        let _ = self.beside.set(beside);
        Ok(())
    }

    /// Releases the lock for another process.
    pub(super) fn unlock(&self) {
        for file in [Some(&self.file), self.beside.get()].into_iter().flatten() {
            // an error means that it was not locked
            let _ = file.unlock();
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn no_link_and_no_removed_lock_file_leads_a_second_service_to_a_database() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("x.db");
        let first = DatabaseFile::open(&path).unwrap();
        first.lock().unwrap();
        let (symbolic, hard) = (dir.path().join("symbolic.db"), dir.path().join("hard.db"));
        std::os::unix::fs::symlink(&path, &symbolic).unwrap();
        std::fs::hard_link(&path, &hard).unwrap();
        for name in [&path, &symbolic, &hard] {
            let second = DatabaseFile::open(name).unwrap();
            assert!(matches!(second.lock(), Err(Error::Conflict(_))), "{}", name.display());
        }
        std::fs::remove_file(dir.path().join("x.db.lock")).unwrap();
        assert!(matches!(DatabaseFile::open(&path).unwrap().lock(), Err(Error::Conflict(_))));
        first.unlock();
        DatabaseFile::open(&path).unwrap().lock().unwrap();
        drop(first);
        DatabaseFile::open(&path).unwrap().lock().unwrap();
    }

    #[test]
    fn a_file_that_is_moved_replaced_or_removed_is_not_in_place() {
        let dir = tempfile::TempDir::new().unwrap();
        let (path, other) = (dir.path().join("x.db"), dir.path().join("y.db"));
        let file = DatabaseFile::open(&path).unwrap();
        assert!(file.is_in_place());
        std::fs::rename(&path, &other).unwrap();
        assert!(!file.is_in_place(), "moved");
        std::fs::write(&path, "").unwrap();
        assert!(!file.is_in_place(), "replaced");
        std::fs::rename(&other, &path).unwrap();
        assert!(file.is_in_place(), "back");
        std::fs::remove_file(&path).unwrap();
        assert!(!file.is_in_place(), "removed");
    }

    #[test]
    fn its_files_are_for_the_services_user_alone() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("x.db");
        let file = DatabaseFile::open(&path).unwrap();
        file.lock().unwrap();
        for name in ["x.db", "x.db.lock"] {
            let mode = dir.path().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
