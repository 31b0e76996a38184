//! Private folders for what is being made: named after their maker, so that anyone can tell when it is dead.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{RunDirectory, Store, StoreError, io_error};
use crate::engine::native::as_mapped_root;
use crate::run::Range;
use crate::sys::process::start_time;
use crate::text::{escape, to_hex};

/// Folders of other hosts are left alone for so long: their makers cannot be asked.
const FOREIGN_AGE: Duration = Duration::from_secs(24 * 3600);

/// A folder of mode 0700 that goes when this is dropped.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed now is swept by a later process.
        let _ = remove_tree(&self.path);
    }
}

impl Store {
    /// Makes `tmp/KIND-HOST_NAMESPACE-BOOT-PID-START-RANDOM`.
    pub fn temporary(&self, kind: &str) -> Result<Temporary, StoreError> {
        temporary_in(self.path().join("tmp"), kind)
    }

    /// Makes a folder below `trash/`, for what is out of reach from then on.
    pub(super) fn trash(&self) -> Result<Temporary, StoreError> {
        temporary_in(self.path().join("trash"), "gc")
    }

    /// The same where a rename to `containers` and back works: they may have been moved to another file system.
    pub(crate) fn temporary_for_container(&self, kind: &str) -> Result<Temporary, StoreError> {
        temporary_in(self.container_temporaries(), kind)
    }

    fn container_temporaries(&self) -> PathBuf {
        let device = |path: &Path| fs::metadata(path).map(|status| status.dev()).ok();
        let containers = self.containers();
        // A link moves them as well as a setting does.
        let is_apart = self.settings().parts.containers.is_some()
            || device(&containers).is_some_and(|theirs| device(self.path()) != Some(theirs));
        if is_apart { containers.join(".tmp") } else { self.path().join("tmp") }
    }

    /// Removes the folders of dead processes; returns how many. Several may sweep at once.
    pub fn sweep(&self) -> Result<usize, StoreError> {
        Ok(self.left_over()?.iter().filter(|path| remove_tree(path).is_ok()).count())
    }

    /// The same for folders in which users of the caller's `subordinate` ranges of uids and gids have files.
    pub fn sweep_mapped(&self, subordinate: (Range, Range)) -> Result<(), StoreError> {
        let rest = self.left_over()?;
        if rest.is_empty() {
            return Ok(());
        }
        let removed = as_mapped_root(subordinate, || rest.iter().try_for_each(|path| remove_tree(path)));
        removed.map_err(io_error("sweep", &self.path().join("tmp")))
    }

    /// The folders of dead processes.
    fn left_over(&self) -> Result<Vec<PathBuf>, StoreError> {
        let (parent, apart) = (self.path().join("tmp"), self.container_temporaries());
        let mut found = left_over_in(&parent)?;
        found.extend(left_over_in(&self.path().join("trash"))?);
        if apart != parent {
            found.extend(left_over_in(&apart)?);
        }
        Ok(found)
    }
}

impl RunDirectory {
    /// Makes a private folder for the time of a run, and removes those of dead processes.
    ///
    /// # Errors
    /// I/O.
    pub fn temporary(&self, kind: &str) -> Result<Temporary, StoreError> {
        self.sweep();
        temporary_in(self.path().join("tmp"), kind)
    }

    /// Removes the folders of dead processes.
    pub(crate) fn sweep(&self) {
        for path in left_over_in(&self.path().join("tmp")).unwrap_or_default() {
            // Another process may be removing it.
            let _ = remove_tree(&path);
        }
    }
}

fn temporary_in(parent: PathBuf, kind: &str) -> Result<Temporary, StoreError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&parent).map_err(io_error("make", &parent))?;
    let me = Maker::me();
    let mut random = [0; 6];
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    filled.map_err(io_error("name a folder in", &parent))?;
    let name = format!("{kind}-{}-{}-{}-{}-{}", me.host, me.boot, me.pid, me.start, to_hex(&random));
    let path = parent.join(name);
    fs::DirBuilder::new().mode(0o700).create(&path).map_err(io_error("make", &path))?;
    Ok(Temporary { path })
}

/// Folders in `parent` whose makers are dead.
fn left_over_in(parent: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = match fs::read_dir(parent) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", parent)(error)),
    };
    let me = Maker::me();
    let is_old = |entry: &fs::DirEntry| {
        let time = entry.metadata().and_then(|status| status.modified());
        time.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > FOREIGN_AGE))
    };
    let is_dead = |entry: &fs::DirEntry| {
        let maker = entry.file_name().to_str().and_then(Maker::parse);
        maker.and_then(|maker| maker.is_dead(&me)).unwrap_or_else(|| is_old(entry))
    };
    Ok(list.flatten().filter(is_dead).map(|entry| entry.path()).collect())
}

/// A process as the names of its folders tell of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Maker {
    host: String,
    boot: String,
    pid: u32,
    start: u64,
}

impl Maker {
    /// This process.
    pub fn me() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().replace('-', "_");
        // Numbers of processes mean something within their namespace alone: another is as far away as another host.
        let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |status| status.ino());
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let pid = std::process::id();
        Self {
            host: format!("{}_{namespace}", escape(host.as_bytes()).replace('/', "_")),
            boot: boot.trim().chars().filter(char::is_ascii_alphanumeric).take(8).collect(),
            pid,
            start: start_time(pid).unwrap_or(0),
        }
    }
    /// The maker of a [`Temporary`] with this file name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-').skip(1);
        let (host, boot) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Some(Self { host, boot, pid: parts.next()?.parse().ok()?, start: parts.next()?.parse().ok()? })
    }
    /// Its number, on its own host.
    pub fn pid(&self) -> u32 {
        self.pid
    }
    /// Whether it is no more; `None` if it is of another host or another namespace of pids than `me`.
    pub fn is_dead(&self, me: &Self) -> Option<bool> {
        let is_other = || self.boot != me.boot || start_time(self.pid).ok() != Some(self.start);
        (self.host == me.host).then(is_other)
    }
}

/// Removes `path` and all below it: beneath descriptors, without following links, whatever the directories' modes are.
///
/// # Errors
/// The first that is not "gone already".
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let parent = match rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))?;
    Ok(remove_at(parent.as_fd(), &name)?)
}

/// Removes `name` beneath `parent` and all below it; see [`remove_tree`].
///
/// # Errors
/// The first that is not "gone already".
pub fn remove_at(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<(), Errno> {
    let gone = |result| match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    };
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return gone(other),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(parent, name, flags, Mode::empty())?
        }
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    rustix::fs::fchmod(&directory, Mode::RWXU)?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        if entry.file_type() == FileType::Directory || entry.file_type() == FileType::Unknown {
            remove_at(directory.as_fd(), name)?;
        } else {
            gone(rustix::fs::unlinkat(&directory, name, AtFlags::empty()))?;
        }
    }
    gone(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_makers() {
        let me = Maker::me();
        let name = format!("pull-{}-{}-{}-{}-00ff", me.host, me.boot, me.pid, me.start);
        assert_eq!(Maker::parse(&name), Some(me));
        assert_eq!(Maker::parse("something"), None);
    }
}
