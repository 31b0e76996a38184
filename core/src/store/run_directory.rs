//! The run directory: node-local, private, on tmpfs; and in it, who runs what.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::lock::lock_file;
use super::{FileLock, Patience, StoreError, io_error};
use crate::sys::process::start_time;

/// From here on the dead are dropped from a list of users.
const LONG_LIST_BYTES: u64 = 16 << 10;

/// A directory of ours that passed its checks.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// The first of `candidates` that is a directory of this user, mode 0700 and no symbolic link; made if it is missing.
    pub fn open(candidates: &[PathBuf]) -> Option<Self> {
        candidates.iter().find(|path| Self::usable(path)).map(|path| Self { path: path.clone() })
    }

    fn usable(path: &Path) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::open(path, flags, Mode::empty());
        let opened = match open() {
            Err(Errno::NOENT) => match rustix::fs::mkdir(path, Mode::RWXU) {
                // Another process may be faster.
                Ok(()) | Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            },
            other => other,
        };
        opened.and_then(rustix::fs::fstat).is_ok_and(|status| {
            status.st_uid == rustix::process::geteuid().as_raw() && status.st_mode & 0o7777 == 0o700
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The users of `name`; nobody else adds or removes one until the value is dropped.
    pub fn users(&self, name: &str) -> Result<Users, StoreError> {
        let path = self.path.join(format!("use-{name}"));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(io_error("lock", &path))?;
        Ok(Users { living: living(&path)?, path, _file: file })
    }

    /// Adds this process to the users of `name`. The others are looked at only once their list is long: each rank of a
    /// node does this.
    pub fn enlist(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path.join(format!("use-{name}"));
        let mut file = File::options().append(true).create(true).open(&path).map_err(io_error("open", &path))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(io_error("lock", &path))?;
        if file.metadata().map_err(io_error("read", &path))?.len() > LONG_LIST_BYTES {
            drop(file);
            return self.users(name)?.enlist();
        }
        let me = std::process::id();
        let line = format!("{me} {}\n", start_time(me).unwrap_or(0));
        file.write_all(line.as_bytes()).map_err(io_error("write", &path))
    }

    /// Marks the tree of an image, whose root is `root`, as run by this process: `rmi` of the same user on this node spares
    /// it.
    ///
    /// # Errors
    /// [`StoreError::TreeGone`] if it was removed a moment ago; I/O.
    pub fn mark_tree(&self, root: &Path) -> Result<(), StoreError> {
        let gone = || StoreError::TreeGone(root.to_owned());
        let name = tree_name(root).ok_or_else(gone)?;
        self.enlist(&name)?;
        if tree_name(root) == Some(name) { Ok(()) } else { Err(gone()) }
    }

    /// The users of the tree of an image; `None` if it is not there.
    pub(super) fn tree_users(&self, root: &Path) -> Result<Option<Users>, StoreError> {
        tree_name(root).map(|name| self.users(&name)).transpose()
    }

    /// Takes the lock `name` of this node, for as long as the value lives. Its file goes with it: who waits for that file
    /// then holds it beside a newcomer, so the lock saves work and protects nothing.
    ///
    /// # Errors
    /// See [`super::Store::lock`].
    pub fn lock(&self, name: &str, patience: &Patience<'_>) -> Result<NodeLock, StoreError> {
        let path = self.path.join(format!("lock-{name}"));
        let lock = lock_file(&path, FlockOperation::NonBlockingLockExclusive, patience)?;
        Ok(NodeLock { path, _lock: lock })
    }

    /// A living user of `name`, if there is one.
    pub fn user_of(&self, name: &str) -> Option<u32> {
        let users = living(&self.path.join(format!("use-{name}"))).ok()?;
        users.first().map(|(pid, _)| *pid)
    }
}

/// A lock among the processes of one user on one node.
#[derive(Debug)]
pub struct NodeLock {
    path: PathBuf,
    _lock: FileLock,
}

impl Drop for NodeLock {
    fn drop(&mut self) {
        // An empty file that stays does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// The list of those who run something, held by this process.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    living: Vec<(u32, u64)>,
    _file: File,
}

impl Users {
    /// Another living user.
    pub fn other(&self) -> Option<u32> {
        let me = std::process::id();
        self.living.iter().map(|(pid, _)| *pid).find(|pid| *pid != me)
    }
    /// Adds this process; the dead are dropped.
    pub fn enlist(mut self) -> Result<(), StoreError> {
        let me = std::process::id();
        self.living.retain(|(pid, _)| *pid != me);
        self.living.push((me, start_time(me).unwrap_or(0)));
        let text: String = self.living.iter().map(|(pid, start)| format!("{pid} {start}\n")).collect();
        fs::write(&self.path, text).map_err(io_error("write", &self.path))
    }
    /// Removes the list of something that is gone. Who waits for it finds its own thing gone as well.
    pub fn forget(self) {
        // An empty list does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// One tree may lie in several stores, and a store be reached by several paths.
fn tree_name(root: &Path) -> Option<String> {
    let status = fs::metadata(root).ok()?;
    Some(format!("tree-{:x}-{}", status.dev(), status.ino()))
}

fn living(path: &Path) -> Result<Vec<(u32, u64)>, StoreError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io_error("read", path))?,
    };
    let pairs = text.lines().filter_map(|line| {
        let (pid, start) = line.split_once(' ')?;
        Some((pid.parse().ok()?, start.parse().ok()?))
    });
    Ok(pairs.filter(|(pid, start)| start_time(*pid).ok() == Some(*start)).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;

    use super::*;

    #[test]
    fn only_the_living_count() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDirectory::open(&[directory.path().join("run")]).unwrap();
        assert_eq!(run.user_of("x"), None);
        let me = std::process::id();
        fs::write(run.path().join("use-x"), format!("{me} 1\n1 1\n")).unwrap();
        assert_eq!(run.user_of("x"), None);
        assert_eq!(run.users("x").unwrap().other(), None);
        run.enlist("x").unwrap();
        assert_eq!(run.user_of("x"), Some(me));
        let parent = std::os::unix::process::parent_id();
        fs::write(run.path().join("use-x"), format!("{parent} {}\n", start_time(parent).unwrap())).unwrap();
        assert_eq!(run.users("x").unwrap().other(), Some(parent));
        run.users("x").unwrap().forget();
        assert_eq!(run.user_of("x"), None);
    }

    #[test]
    fn a_foreign_or_open_directory_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let (open, link, good) =
            (directory.path().join("open"), directory.path().join("link"), directory.path().join("good"));
        fs::DirBuilder::new().mode(0o755).create(&open).unwrap();
        fs::create_dir(&good).unwrap();
        std::os::unix::fs::symlink(&good, &link).unwrap();
        fs::remove_dir(&good).unwrap();
        assert_eq!(RunDirectory::open(&[open, link, good.clone()]).unwrap().path(), good);
    }
}
