//! Who publishes holds off who removes: one lock per store, by flock(2), which the kernel frees when its holder dies.
//!
//! ```text
//! TOPDIR/udocker.lock     shared: from the first thing published to the tag that names it, or the container over it
//!                         exclusive: removing tags, and collecting what nothing names
//! ```
//! Nothing that a reader may see ever depends on the lock: entries are content-addressed and appear by rename. Where the
//! file system refuses flock(2) (ENOLCK, ENOSYS, EOPNOTSUPP), what is made by others is merely not protected against a
//! removal in the same moment.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{Store, StoreError, io_error};
use crate::deadline::Deadline;

const LOCK_FILE: &str = "udocker.lock";
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// What a lock is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Any number at a time.
    Publish,
    /// One, and no publisher.
    Remove,
}

/// A held lock; released when dropped, and by the kernel when its process ends.
#[derive(Debug)]
pub struct FileLock {
    _file: Option<File>,
}

/// Calls `told` once if a wait gets long; a wait ends by getting the lock or after `limit`.
pub struct Patience<'a> {
    /// After so long the user is told.
    pub tell_after: Duration,
    /// Tells.
    pub told: &'a dyn Fn(),
    /// After so long the wait is given up.
    pub limit: Duration,
}

impl<'a> Patience<'a> {
    /// Tells after 5 s and waits for 15 min.
    pub fn long(told: &'a dyn Fn()) -> Self {
        Self { tell_after: Duration::from_secs(5), told, limit: Duration::from_secs(15 * 60) }
    }
    /// Tells after 5 s and waits until `deadline`.
    pub fn until(deadline: &Deadline, told: &'a dyn Fn()) -> Self {
        Self { limit: deadline.left(), ..Self::long(told) }
    }
    /// Silent and short.
    pub fn short() -> Self {
        Self { tell_after: Duration::MAX, told: &|| {}, limit: Duration::from_secs(2) }
    }
}

impl Store {
    /// Takes the store's lock.
    ///
    /// # Errors
    /// [`StoreError::Busy`] after `patience.limit`; I/O.
    pub fn lock(&self, kind: LockKind, patience: &Patience<'_>) -> Result<FileLock, StoreError> {
        let operation = match kind {
            LockKind::Publish => FlockOperation::NonBlockingLockShared,
            LockKind::Remove => FlockOperation::NonBlockingLockExclusive,
        };
        lock_file(&self.path().join(LOCK_FILE), operation, patience)
    }
}

/// Opens `path` (made if it is missing) and locks it.
///
/// # Errors
/// [`StoreError::Busy`] after `patience.limit`; I/O.
pub(super) fn lock_file(
    path: &Path,
    operation: FlockOperation,
    patience: &Patience<'_>,
) -> Result<FileLock, StoreError> {
    // In a group's store it is another's file; local file systems lock what is open for reading as well.
    let file = match File::options().read(true).write(true).create(true).truncate(false).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => File::open(path),
        other => other,
    };
    let file = file.map_err(io_error("open", path))?;
    let since = Instant::now();
    let mut told = false;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(FileLock { _file: Some(file) }),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(FileLock { _file: None }),
            Err(errno) => return Err(io_error("lock", path)(errno)),
        }
        let waited = since.elapsed();
        if waited >= patience.limit {
            return Err(StoreError::Busy { path: path.to_owned(), seconds: waited.as_secs() });
        }
        if !told && waited >= patience.tell_after {
            told = true;
            (patience.told)();
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::settings::{StoreKind, StoreParts, StoreSettings};

    #[test]
    fn publishers_share_and_removers_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            name: "s".into(),
            path: directory.path().join("store"),
            parts: StoreParts::default(),
            kind: StoreKind::User,
            readonly: false,
            keep_layers: true,
            sync: false,
            access: Default::default(),
        };
        let store = Store::create(&settings).unwrap();
        let calls = Cell::new(0);
        let told = || calls.set(calls.get() + 1);
        let patience =
            Patience { tell_after: Duration::from_millis(20), told: &told, limit: Duration::from_millis(500) };
        let first = store.lock(LockKind::Publish, &patience).unwrap();
        let second = store.lock(LockKind::Publish, &patience).unwrap();
        assert!(matches!(store.lock(LockKind::Remove, &patience), Err(StoreError::Busy { seconds: 0, .. })));
        drop((first, second));
        let alone = store.lock(LockKind::Remove, &patience).unwrap();
        assert!(store.lock(LockKind::Publish, &patience).is_err());
        assert_eq!(calls.get(), 2);
        drop(alone);
        store.lock(LockKind::Publish, &patience).unwrap();
    }
}
