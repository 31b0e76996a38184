//! The relay's directory in the run directory. Its name is the step's, so that what mounts it has one shape.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use udocker_core::members::open_own;
use udocker_core::rendezvous::RELAY_LOCK;
use udocker_core::store::{make_private, remove_tree};

use super::SHIMS;

/// It, with its shims.
pub struct Directory(PathBuf);

impl Directory {
    /// Makes what is missing of it, with a shim for each of `commands`.
    pub fn make(path: &Path, commands: &[PathBuf]) -> io::Result<Self> {
        let shims = path.join(Path::new(SHIMS).file_name().expect("a constant path has a name"));
        for directory in [path, &shims] {
            match make_private(directory) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        open_own(File::options().append(true).create(true), &path.join(RELAY_LOCK))?;
        for name in commands.iter().filter_map(|command| command.file_name()) {
            match std::os::unix::fs::symlink("../launch", shims.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(Self(path.to_owned()))
    }

    /// Listens, in place of a relay that is gone; the lock is held while the file is open. `None`: another one lives.
    pub fn listen(&self) -> io::Result<Option<(UnixListener, File)>> {
        let lock = open_own(File::options().append(true), &self.0.join(RELAY_LOCK))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        }
        match fs::remove_file(self.0.join("socket")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // An address has room for 107 bytes.
        let directory = File::open(&self.0)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/socket", directory.as_raw_fd()))?;
        // Whatever the umask.
        fs::set_permissions(self.0.join("socket"), fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Some((listener, lock)))
    }

    /// Removes it.
    pub fn remove(&self) {
        // What stays is for `reap`.
        let _ = remove_tree(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_relay_listens_and_a_directory_that_was_removed_is_told() {
        let own = tempfile::tempdir().unwrap();
        // Longer than an address of a socket may be.
        let path = own.path().join("x".repeat(120));
        let commands = [PathBuf::from("/usr/bin/srun")];
        Directory::make(&path, &commands).unwrap().remove();
        let gone = Directory(path.clone()).listen().unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        let directory = Directory::make(&path, &commands).unwrap();
        assert_eq!(fs::read_link(path.join("bin/srun")).unwrap(), Path::new("../launch"));
        let first = directory.listen().unwrap();
        assert!(first.is_some() && directory.listen().unwrap().is_none());
        drop(first);
        // A socket that nobody listens at is in nobody's way.
        assert!(Directory::make(&path, &commands).unwrap().listen().unwrap().is_some());
    }
}
