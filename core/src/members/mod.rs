//! A list of the processes on this node that run one thing: who arrives may look for one that lives, and join it.
//!
//! ```text
//! bytes 0…1023    what the list is of (see rendezvous::Head), filled up with NULs
//! then            records of 32 bytes: pid, kind, start time, inode of the mount namespace (little-endian)
//! ```
//! The file is changed under flock(2) alone, one pwrite(2) each, so a killed process leaves no half record. A process is
//! believed to live if pid and start time agree.

pub(crate) mod holder;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::error::{ErrorKind, Explain};
use crate::sys::flock::lock_exclusive;
use crate::sys::namespace::Namespace;
use crate::sys::process::{own_start_time, start_time};

/// Bytes of the text at the beginning.
pub(crate) const HEAD_BYTES: usize = 1024;
const RECORD_BYTES: usize = 32;
/// With so many records the dead are dropped.
const LONG_LIST: usize = 512;

/// A list could not be used.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// A system call failed.
    #[error("cannot {action} {}, a list of processes", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What stopped it.
        source: io::Error,
    },
    /// Another process has held the list for all that time.
    #[error("cannot lock {}, a list of processes: another process has held it for {seconds} s", path.display())]
    Timeout {
        /// The file.
        path: PathBuf,
        /// How long.
        seconds: u64,
    },
}

impl Explain for MembersError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::from_io(source),
            Self::Timeout { .. } => ErrorKind::Timeout,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Io { .. } => vec!["`udocker-launch reap` removes what dead processes left".into()],
            Self::Timeout { .. } => vec!["`fuser` names who has it open; it may be stopped".into()],
        }
    }
}

fn io_error<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> MembersError {
    let path = path.to_owned();
    move |source| MembersError::Io { action, path, source: source.into() }
}

/// Opens a file of the run directory: who made it may have had a umask that forbids even its owner.
///
/// # Errors
/// Those of open(2).
pub fn open_own(options: &OpenOptions, path: &Path) -> io::Result<File> {
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
            options.open(path)
        }
        opened => opened,
    }
}

/// What a process is to the thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// It runs the program.
    Rank = 0,
    /// It only keeps the namespaces within reach (see `holder`).
    Holder = 1,
    /// It looks at the thing and changes nothing.
    Viewer = 2,
}

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its pid, in the pid namespace of all.
    pub pid: u32,
    /// What it is.
    pub kind: Kind,
    /// When it started, in ticks since boot.
    pub start: u64,
    /// The inode of its mount namespace.
    pub namespace: u64,
}

impl Member {
    /// This process.
    ///
    /// # Errors
    /// Those of reading /proc/self/stat.
    pub fn me(namespace: u64) -> io::Result<Self> {
        Ok(Self { pid: std::process::id(), kind: Kind::Rank, start: own_start_time()?, namespace })
    }

    /// Whether it lives. In a container without /proc a pid that is taken is believed to be its.
    pub fn lives(&self) -> bool {
        match start_time(self.pid) {
            Ok(start) => start == self.start,
            Err(_) if start_time(std::process::id()).is_ok() => false,
            Err(_) => Pid::from_raw(self.pid as i32).is_some_and(|pid| test_kill_process(pid).is_ok()),
        }
    }

    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..4].copy_from_slice(&self.pid.to_le_bytes());
        bytes[4..8].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.start.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.namespace.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let (pid, kind) = (word(0) as u32, (word(0) >> 32) as u32);
        let kind = [Kind::Holder, Kind::Viewer].into_iter().find(|known| *known as u32 == kind).unwrap_or(Kind::Rank);
        Self { pid, kind, start: word(8), namespace: word(16) }
    }
}

/// A list, locked by this process until it is dropped.
#[derive(Debug)]
pub struct Members {
    file: File,
    path: PathBuf,
    head: Vec<u8>,
    members: Vec<Member>,
}

/// What a list says of its thing.
pub enum Found {
    /// Nobody lives.
    Nobody,
    /// One who lives, and its mount namespace.
    Joinable(u32, Namespace),
    /// Somebody lives, and this process may not look at the namespaces of any of them.
    OutOfReach(u32),
}

impl Members {
    /// Opens the list at `path` (made if it is missing) and locks it; `told` is called once if that takes longer than 5 s.
    ///
    /// # Errors
    /// [`MembersError::Timeout`] after `limit`; I/O.
    pub fn lock(path: &Path, limit: Duration, told: &mut dyn FnMut()) -> Result<Self, MembersError> {
        loop {
            let file = open_own(File::options().read(true).write(true).create(true).truncate(false), path);
            let file = file.map_err(io_error("open", path))?;
            match lock_exclusive(&file, Duration::from_secs(5), limit, told) {
                Err(Errno::TIMEDOUT) => {
                    return Err(MembersError::Timeout { path: path.to_owned(), seconds: limit.as_secs() });
                }
                other => other.map_err(io_error("lock", path))?,
            }
            if let Some(list) = Self::read(file, path)? {
                return Ok(list);
            }
        }
    }

    /// The list at `path`, locked, if it is there and nobody else holds it.
    ///
    /// # Errors
    /// I/O.
    pub fn try_lock(path: &Path) -> Result<Option<Self>, MembersError> {
        let file = match open_own(File::options().read(true).write(true), path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io_error("open", path))?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            other => other.map_err(io_error("lock", path)).and_then(|()| Self::read(file, path)),
        }
    }

    /// The list at `path` as it is now, whoever holds it; `None` if it is not there.
    pub(crate) fn peek(path: &Path) -> Option<Self> {
        Self::read(open_own(File::options().read(true), path).ok()?, path).ok()?
    }

    /// `None` if it was removed while it was waited for: the path leads to another file by now, or to none.
    fn read(file: File, path: &Path) -> Result<Option<Self>, MembersError> {
        let status = file.metadata().map_err(io_error("read", path))?;
        if status.nlink() == 0 {
            return Ok(None);
        }
        let mut list = Self { file, path: path.to_owned(), head: Vec::new(), members: Vec::new() };
        list.load(status.len())?;
        Ok(Some(list))
    }

    fn load(&mut self, length: u64) -> Result<(), MembersError> {
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, 0).map_err(io_error("read", &self.path))?;
        let records = bytes.get(HEAD_BYTES..).unwrap_or_default();
        self.members = records.as_chunks().0.iter().map(Member::from_bytes).collect();
        bytes.truncate(HEAD_BYTES);
        self.head = bytes;
        Ok(())
    }

    /// Gives the lock up, for [`Self::lock_again`].
    pub(crate) fn unlock(&self) {
        // A lock that is held can be given up.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }

    /// Waits for the lock and reads the list again.
    pub(crate) fn lock_again(&mut self) -> Result<(), MembersError> {
        flock(&self.file, FlockOperation::LockExclusive).map_err(io_error("lock", &self.path))?;
        let length = self.file.metadata().map_err(io_error("read", &self.path))?.len();
        self.load(length)
    }

    /// The text at its beginning; empty if nobody was ever in it.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether one of the lines at its beginning is `line`.
    pub fn says(&self, line: &str) -> bool {
        self.head.split(|byte| matches!(byte, b'\n' | 0)).any(|said| said == line.as_bytes())
    }

    /// Whether somebody was ever in it.
    pub fn has_records(&self) -> bool {
        !self.members.is_empty()
    }

    /// The pid of the first, whether it lives or not.
    pub(crate) fn first(&self) -> Option<u32> {
        self.members.first().map(|member| member.pid)
    }

    /// Those who live.
    pub fn living(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.lives())
    }

    /// Looks for one whose namespaces can be joined.
    pub fn find(&self) -> Found {
        let mut found = Found::Nobody;
        for member in &self.members {
            match Namespace::of(member.pid, "mnt") {
                // It may have moved on to a namespace of its own, or the pid be another's by now.
                Ok(namespace) if namespace.inode() == member.namespace && member.lives() => {
                    return Found::Joinable(member.pid, namespace);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ if member.lives() => found = Found::OutOfReach(member.pid),
                _ => {}
            }
        }
        found
    }

    /// Makes it the list of a new container, described by `head`, without processes.
    ///
    /// # Errors
    /// I/O.
    pub fn begin(&mut self, head: Vec<u8>) -> Result<(), MembersError> {
        self.file.set_len(0).map_err(io_error("clear", &self.path))?;
        self.members.clear();
        self.head = head;
        Ok(())
    }

    /// Adds a process.
    ///
    /// # Errors
    /// I/O.
    pub fn add(&mut self, member: Member) -> Result<(), MembersError> {
        if self.members.len() >= LONG_LIST {
            self.members.retain(Member::lives);
            // Killed in between, this leaves dead and doubled records, which do no harm.
            let bytes: Vec<u8> = self.members.iter().flat_map(|member| member.to_bytes()).collect();
            self.file.write_all_at(&bytes, HEAD_BYTES as u64).map_err(io_error("write", &self.path))?;
            let length = (HEAD_BYTES + bytes.len()) as u64;
            self.file.set_len(length).map_err(io_error("write", &self.path))?;
        }
        self.head.resize(HEAD_BYTES, 0);
        let (bytes, at) = match self.members.is_empty() {
            true => ([&self.head[..], &member.to_bytes()].concat(), 0),
            false => (member.to_bytes().to_vec(), HEAD_BYTES + self.members.len() * RECORD_BYTES),
        };
        self.file.write_all_at(&bytes, at as u64).map_err(io_error("write", &self.path))?;
        self.members.push(member);
        Ok(())
    }

    /// Removes the file; who waits for it makes a new one.
    ///
    /// # Errors
    /// I/O.
    pub fn remove(self) -> Result<(), MembersError> {
        std::fs::remove_file(&self.path).map_err(io_error("remove", &self.path))
    }
}

impl AsRawFd for Members {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(path: &Path) -> Members {
        Members::lock(path, Duration::from_secs(1), &mut || {}).unwrap()
    }

    #[test]
    fn the_dead_are_passed_over_and_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list");
        let inode = crate::sys::namespace::own_inode("mnt").unwrap();
        let me = Member::me(inode).unwrap();
        let mut list = lock(&path);
        assert!(matches!(list.find(), Found::Nobody));
        list.begin(b"text\n".to_vec()).unwrap();
        list.add(Member { start: me.start + 1, ..me }).unwrap();
        assert!(matches!(list.find(), Found::Nobody), "the pid is another's by now");
        list.add(Member { namespace: inode + 1, ..me }).unwrap();
        assert!(matches!(list.find(), Found::OutOfReach(pid) if pid == me.pid), "it has moved on");
        list.add(me).unwrap();
        assert!(matches!(list.find(), Found::Joinable(_, found) if found.inode() == inode));
        drop(list);
        let mut list = lock(&path);
        assert_eq!((list.members.len(), &list.head()[..6]), (3, &b"text\n\0"[..]));
        for _ in 3..LONG_LIST {
            list.add(Member { start: 1, ..me }).unwrap();
        }
        list.add(Member { kind: Kind::Holder, ..me }).unwrap();
        drop(list);
        let kinds: Vec<_> = lock(&path).members.iter().map(|member| member.kind).collect();
        assert_eq!(kinds, [Kind::Rank, Kind::Rank, Kind::Holder], "the one that moved on lives as well");
    }

    #[test]
    fn a_list_that_was_removed_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list");
        let held = lock(&path);
        assert!(Members::try_lock(&path).unwrap().is_none());
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || {
                let list = Members::lock(&path, Duration::from_secs(20), &mut || {}).unwrap();
                (list.members.len(), path.exists())
            }
        });
        // The waiter sleeps on the file that goes.
        while !std::fs::read_to_string("/proc/locks").unwrap().contains("->") {
            std::thread::yield_now();
        }
        held.remove().unwrap();
        assert_eq!(waiter.join().unwrap(), (0, true));
    }

    #[test]
    fn a_list_that_stays_locked_ends_the_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list");
        let _held = lock(&path);
        let error = Members::lock(&path, Duration::from_secs(1), &mut || {}).unwrap_err();
        assert!(error.to_string().ends_with("has held it for 1 s"), "{error}");
    }
}
