//! The run directory: node-local, private, on tmpfs; and in it, who runs what.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::lock::lock_file;
use super::{FileLock, Patience, StoreError, io_error};
use crate::error::{ErrorKind, Explain};
use crate::members::{Kind, Member, Members};

/// For so long a list is waited for, which is held for moments alone.
const LIMIT: Duration = Duration::from_secs(60);

/// A directory of ours that passed its checks.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// The first of `candidates` that is a directory of this user and no symbolic link, of mode 0700 or of less, which becomes
    /// that; made if it is missing.
    pub fn open(candidates: &[PathBuf]) -> Option<Self> {
        Self::look(candidates).0
    }

    /// The same, and of the first candidate before it that is there and cannot be taken: whose it is.
    pub fn look(candidates: &[PathBuf]) -> (Option<Self>, Option<String>) {
        let mut passed_over = None;
        let found = candidates.iter().find(|path| match Self::try_open(path) {
            Ok(()) => true,
            Err(Errno::NOENT) => false,
            Err(_) => {
                passed_over.get_or_insert(*path);
                false
            }
        });
        let told = passed_over.and_then(|path| Some((path.display(), fs::symlink_metadata(path).ok()?)));
        let told = told.map(|(path, status)| {
            let (uid, mode) = (status.uid(), status.mode() & 0o7777);
            format!("{path} is passed over as the run directory: it is of user {uid} and has mode {mode:04o}, not yours and 0700")
        });
        (found.map(|path| Self { path: path.clone() }), told)
    }

    fn try_open(path: &Path) -> rustix::io::Result<()> {
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
        let status = rustix::fs::fstat(opened?)?;
        let mode = status.st_mode & 0o7777;
        if status.st_uid != rustix::process::geteuid().as_raw() || mode & !0o700 != 0 {
            return Err(Errno::PERM);
        }
        // A umask took the rest.
        if mode == 0o700 { Ok(()) } else { rustix::fs::chmod(path, Mode::RWXU) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that programs in jobs get for their own sockets (XDG_RUNTIME_DIR), of mode 0700.
    pub fn for_programs(&self) -> Option<PathBuf> {
        let path = self.path.join("xdg");
        match make_private(&path) {
            Ok(()) | Err(Errno::EXIST) => Some(path),
            Err(_) => None,
        }
    }

    /// An empty file, or an empty directory, of mode 000, to be mounted on what nobody may open. `None` if it cannot be made.
    pub fn cover(&self, is_directory: bool) -> Option<PathBuf> {
        let path = self.path.join(if is_directory { "covered-directory" } else { "covered" });
        let made = match is_directory {
            true => rustix::fs::mkdir(&path, Mode::empty()),
            false => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                rustix::fs::open(&path, flags, Mode::empty()).map(drop)
            }
        };
        matches!(made, Ok(()) | Err(Errno::EXIST)).then_some(path)
    }

    /// The users of `name`; nobody else adds or removes one until the value is dropped.
    ///
    /// # Errors
    /// I/O; a list that another process holds for 60 s.
    pub fn users(&self, name: &str) -> Result<Users, StoreError> {
        let path = self.path.join(format!("use-{name}"));
        Ok(Users { list: Members::lock(&path, LIMIT, &mut || {})?, in_container: None })
    }

    /// Adds this process to the users of `name`. The others are looked at only once their list is long: each rank of a
    /// node does this.
    ///
    /// # Errors
    /// See [`Self::users`].
    pub fn enlist(&self, name: &str) -> Result<(), StoreError> {
        self.users(name)?.enlist(Kind::Rank)
    }

    /// Marks the tree of an image, whose root is `root`, as run by this process: `rmi` of the same user on this node spares
    /// it. Returns the name of the list.
    ///
    /// # Errors
    /// [`StoreError::TreeGone`] if it was removed a moment ago; I/O.
    pub fn mark_tree(&self, root: &Path) -> Result<String, StoreError> {
        let gone = || StoreError::TreeGone(root.to_owned());
        let name = tree_name(root).ok_or_else(gone)?;
        self.enlist(&name)?;
        if tree_name(root).as_ref() == Some(&name) { Ok(name) } else { Err(gone()) }
    }

    /// The users of the tree of an image; `None` if it is not there.
    pub(super) fn tree_users(&self, root: &Path) -> Result<Option<Users>, StoreError> {
        let Some(name) = tree_name(root) else { return Ok(None) };
        let users = self.users(&name)?;
        Ok(Some(Users { in_container: self.in_container(&name), ..users }))
    }

    /// A process of a container whose root is the tree `name`: who joins one is in the container's list alone. Who makes
    /// one lists himself among the tree's users first.
    fn in_container(&self, name: &str) -> Option<u32> {
        let line = tree_line(name);
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let lists = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"step-"));
        lists.map(|entry| entry.path()).find_map(|path| match Members::try_lock(&path) {
            Ok(Some(list)) => list.says(&line).then(|| list.living().next().map(|member| member.pid))?,
            // Whoever holds it may be on the way in.
            _ => Members::peek(&path).filter(|list| list.says(&line))?.first(),
        })
    }

    /// Takes the lock `name` of this node, for as long as the value lives. Its file goes with it: who waits for that file
    /// then holds it beside a newcomer, so the lock saves work and protects nothing.
    ///
    /// # Errors
    /// See [`super::Store::lock`].
    pub fn lock(&self, name: &str, patience: &Patience<'_>) -> Result<NodeLock, StoreError> {
        let path = self.path.join(format!("lock-{name}"));
        let take = || lock_file(&path, FlockOperation::NonBlockingLockExclusive, patience);
        let lock = match take() {
            // A umask took its mode.
            Err(error) if error.kind() == ErrorKind::Denied => {
                rustix::fs::chmod(&path, Mode::RUSR | Mode::WUSR).map_err(io_error("open", &path))?;
                take()?
            }
            lock => lock?,
        };
        Ok(NodeLock { path, _lock: lock })
    }

    /// A living user of `name`, if there is one.
    pub fn user_of(&self, name: &str) -> Option<u32> {
        if !self.path.join(format!("use-{name}")).exists() {
            return None;
        }
        let users = self.users(name).ok()?;
        users.list.living().next().map(|member| member.pid)
    }
}

/// Makes the directory `path` with mode 0700, whatever the umask.
///
/// # Errors
/// Those of mkdir(2) and chmod(2).
pub fn make_private(path: &Path) -> rustix::io::Result<()> {
    rustix::fs::mkdir(path, Mode::RWXU)?;
    rustix::fs::chmod(path, Mode::RWXU)
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
    list: Members,
    /// One who is in no list but its container's.
    in_container: Option<u32>,
}

impl Users {
    /// Another living user.
    pub fn other(&self) -> Option<u32> {
        let me = std::process::id();
        self.list.living().map(|member| member.pid).chain(self.in_container).find(|pid| *pid != me)
    }
    /// Another living user that is there to look.
    pub(crate) fn other_viewer(&self) -> Option<u32> {
        let me = std::process::id();
        self.list.living().find(|member| member.kind == Kind::Viewer && member.pid != me).map(|member| member.pid)
    }
    /// Adds this process.
    ///
    /// # Errors
    /// I/O.
    pub fn enlist(mut self, kind: Kind) -> Result<(), StoreError> {
        let me = Member::me(0).map_err(io_error("read", Path::new("/proc/self/stat")))?;
        Ok(self.list.add(Member { kind, ..me })?)
    }
    /// Removes the list of something that is gone. Who waits for it finds its own thing gone as well.
    pub fn forget(self) {
        // An empty list does no harm.
        let _ = self.list.remove();
    }
}

/// The line by which the list of a container tells the tree that is its root.
pub(crate) fn tree_line(name: &str) -> String {
    format!("tree {name}")
}

/// The tree of an image that is about to be run.
#[derive(Clone, Debug)]
pub struct TreeUse {
    /// Under which name its users are listed.
    pub name: String,
    /// Where it is.
    pub root: PathBuf,
    /// Whether this process is among them; else it must be, or be in the list of a container with this root.
    pub is_listed: bool,
}

/// One tree may lie in several stores, and a store be reached by several paths.
pub(super) fn tree_name(root: &Path) -> Option<String> {
    let status = fs::metadata(root).ok()?;
    Some(format!("tree-{:x}-{}", status.dev(), status.ino()))
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
        run.users("x").unwrap().list.add(Member { start: 1, ..Member::me(0).unwrap() }).unwrap();
        assert_eq!(run.user_of("x"), None);
        run.enlist("x").unwrap();
        assert_eq!(run.user_of("x"), Some(std::process::id()));
        assert_eq!(run.users("x").unwrap().other(), None);
        let parent = std::os::unix::process::parent_id();
        let start = crate::sys::process::start_time(parent).unwrap();
        run.users("x").unwrap().list.add(Member { pid: parent, start, ..Member::me(0).unwrap() }).unwrap();
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
        let candidates = [open.clone(), link, good.clone()];
        let (chosen, passed_over) = RunDirectory::look(&candidates);
        assert_eq!(chosen.unwrap().path(), good);
        let told = format!(
            "{} is passed over as the run directory: it is of user {} and has mode 0755, not yours and 0700",
            open.display(),
            rustix::process::getuid().as_raw()
        );
        assert_eq!(passed_over, Some(told));
        assert_eq!(RunDirectory::look(&candidates[2..]).1, None);
    }
}
