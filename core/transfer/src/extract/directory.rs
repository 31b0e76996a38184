//! A directory of the tree that is being made: what it holds, and a descriptor that is opened when it is needed.
//!
//! The kernel is only ever asked for one name below a descriptor, never for a path. Descriptors are a limited good: the
//! oldest are closed first, and opened again from their parents.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::{Mode, OFlags, Timespec};
use rustix::io::Errno;

use super::lock;

pub(super) const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// When an entry counts: of two for one name the higher one wins. The layer (from 1) is in the upper 24 bits, the place in
/// the layer (from 1) in the lower 40; 0 is before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version(u64);

impl Version {
    pub const NONE: Self = Self(0);

    /// The entry `sequence` (from 1) of layer `layer` (from 0).
    pub fn new(layer: usize, sequence: u64) -> Self {
        Self((layer as u64 + 1) << 40 | sequence)
    }
    /// Before all entries of the same layer: what a whiteout hides is lower than this.
    pub fn layer_start(self) -> Self {
        Self(self.0 >> 40 << 40)
    }
    /// The layer, from 0.
    pub fn layer(self) -> usize {
        (self.0 >> 40) as usize - 1
    }
}

/// Owner and group where one of them is not 0, as most are.
pub(super) type Owner = Option<Box<(u64, u64)>>;

/// One directory.
pub(super) struct Directory {
    /// `None` for the root.
    parent: Option<(Weak<Directory>, Box<[u8]>)>,
    fd: Mutex<Option<Arc<OwnedFd>>>,
    /// The highest entry at or below it.
    top: AtomicU64,
    /// Moved away, since a file took its place.
    trashed: AtomicBool,
    inner: Mutex<Inner>,
}

/// What a directory holds, under its lock.
#[derive(Default)]
pub(super) struct Inner {
    pub children: HashMap<Box<[u8]>, Child>,
    /// Children below this version are hidden by an opaque mark.
    pub opaque: Version,
    pub meta: Meta,
}

/// Mode and time that the highest entry gave to a directory; version 0 if no entry did.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    pub version: Version,
    pub mode: u32,
    pub owner: Owner,
    pub mtime: Timespec,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Default for Meta {
    fn default() -> Self {
        let mtime = Timespec { tv_sec: 0, tv_nsec: 0 };
        Self { version: Version::NONE, mode: 0o755, owner: None, mtime, xattrs: Vec::new() }
    }
}

/// One name of a directory.
#[derive(Default)]
pub(super) struct Child {
    pub kind: Kind,
    /// Of what is there; for directories see [`Meta`].
    pub version: Version,
    /// Entries lower than this are hidden: by a whiteout, or by something that is no directory.
    pub hidden_below: Version,
    pub mode: u32,
    pub owner: Owner,
}

#[derive(Default)]
pub(super) enum Kind {
    /// Nothing: never there, or hidden.
    #[default]
    Absent,
    Directory(Arc<Directory>),
    File {
        size: u64,
    },
    Symlink,
    /// Not made, nor are links to it.
    Device,
    /// A hard link that is made at the end, to this path.
    HardLink(Box<[u8]>),
}

/// Why a directory's descriptor cannot be had.
pub(super) enum DirectoryError {
    /// It, or one above it, was moved away: whatever was to be done there would be hidden.
    Trashed,
    Os(Errno),
}

impl From<Errno> for DirectoryError {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

impl Directory {
    pub fn root(fd: OwnedFd) -> Arc<Self> {
        Arc::new(Self::new(None, Some(Arc::new(fd))))
    }

    fn new(parent: Option<(Weak<Self>, Box<[u8]>)>, fd: Option<Arc<OwnedFd>>) -> Self {
        Self {
            parent,
            fd: Mutex::new(fd),
            top: AtomicU64::new(0),
            trashed: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    pub fn top(&self) -> Version {
        Version(self.top.load(Ordering::Relaxed))
    }

    /// Notes an entry at or below it. Called under the parent's lock.
    pub fn raise_top(&self, version: Version) {
        self.top.fetch_max(version.0, Ordering::Relaxed);
    }

    pub fn set_trashed(&self) {
        self.trashed.store(true, Ordering::Release);
    }
}

/// Which directories have a descriptor open.
pub(super) struct OpenDirectories {
    limit: usize,
    open: Mutex<VecDeque<Weak<Directory>>>,
}

impl OpenDirectories {
    pub fn new(limit: usize) -> Self {
        Self { limit, open: Mutex::default() }
    }

    /// Makes the directory `name` in `parent`, open.
    pub fn make(&self, parent: &Arc<Directory>, name: &[u8]) -> Result<Arc<Directory>, DirectoryError> {
        let above = self.descriptor(parent)?;
        rustix::fs::mkdirat(&*above, name, Mode::RWXU)?;
        let fd = rustix::fs::openat(&*above, name, OPEN_DIRECTORY, Mode::empty())?;
        let made = Directory::new(Some((Arc::downgrade(parent), name.into())), Some(Arc::new(fd)));
        let made = Arc::new(made);
        self.remember(&made);
        Ok(made)
    }

    /// The descriptor of `directory`.
    pub fn descriptor(&self, directory: &Arc<Directory>) -> Result<Arc<OwnedFd>, DirectoryError> {
        if let Some(fd) = &*lock(&directory.fd) {
            return Ok(Arc::clone(fd));
        }
        if directory.trashed.load(Ordering::Acquire) {
            return Err(DirectoryError::Trashed);
        }
        let (parent, name) = directory.parent.as_ref().expect("the root stays open");
        let above = self.descriptor(&parent.upgrade().ok_or(DirectoryError::Trashed)?)?;
        let opened = rustix::fs::openat(&*above, &**name, OPEN_DIRECTORY, Mode::empty());
        let opened = match opened {
            // It may have been moved away between the question above and now, and what was opened took its place.
            _ if directory.trashed.load(Ordering::Acquire) => return Err(DirectoryError::Trashed),
            other => Arc::new(other?),
        };
        *lock(&directory.fd) = Some(Arc::clone(&opened));
        self.remember(directory);
        Ok(opened)
    }

    fn remember(&self, directory: &Arc<Directory>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_back(Arc::downgrade(directory));
        if open.len() <= self.limit {
            return;
        }
        let oldest = open.pop_front().and_then(|oldest| oldest.upgrade());
        drop(open);
        if let Some(oldest) = oldest {
            *lock(&oldest.fd) = None;
        }
    }
}
