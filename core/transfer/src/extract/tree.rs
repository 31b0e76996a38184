//! The tree in memory, which decides what is written: any order of arrival gives the same files.
//!
//! Of two entries for one name the higher version wins. A whiteout, an opaque mark, and whatever is no directory leave
//! "hidden below this version" on the name, so a lower entry that comes later is skipped before it is written; one that
//! came earlier is unlinked, or moved into the trash if it is a directory.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::directory::{Child, Directory, DirectoryError, Kind, Meta, OPEN_DIRECTORY, OpenDirectories, Owner, Version};
use super::path::{TreePath, components, split};

/// No entry has this name, since `.wh.` begins whiteouts, and what would be below it is left out.
pub(super) const TRASH: &CStr = c".wh..wh.trash";

/// An entry whose path is resolved within its own layer.
#[derive(Debug)]
pub(super) struct Item {
    pub version: Version,
    pub path: TreePath,
    pub node: Node,
    pub mode: u32,
    pub owner: Owner,
    pub mtime: Timespec,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) enum Node {
    Directory,
    /// Of so many bytes in the end.
    File(u64),
    /// To this target.
    Symlink(Vec<u8>),
    /// To this path.
    HardLink(TreePath),
    /// Nothing is made, but what was there goes.
    Device,
    /// `path` is what is hidden.
    Whiteout,
    /// `path` is the directory.
    Opaque,
}

/// What became of an item.
pub(super) enum Placed {
    /// It is in the tree, or hides what it hides.
    Done,
    /// Something higher is in its place.
    Hidden,
    /// It is in the tree, and its bytes are to be written here.
    File(File),
}

pub(super) struct Tree {
    pub root: Arc<Directory>,
    pub open: OpenDirectories,
    pub trash: OwnedFd,
    trashed: AtomicU64,
    implied: AtomicU64,
}

impl Tree {
    /// A tree in the empty directory `root`, with at most `descriptors` of its directories open.
    pub fn new(root: BorrowedFd<'_>, descriptors: usize) -> Result<Self, Errno> {
        rustix::fs::fchmod(root, Mode::RWXU)?;
        let root = rustix::fs::openat(root, ".", OPEN_DIRECTORY, Mode::empty())?;
        rustix::fs::mkdirat(&root, TRASH, Mode::RWXU)?;
        let trash = rustix::fs::openat(&root, TRASH, OPEN_DIRECTORY, Mode::empty())?;
        let open = OpenDirectories::new(descriptors);
        Ok(Self { root: Directory::root(root), open, trash, trashed: AtomicU64::new(0), implied: AtomicU64::new(0) })
    }

    /// Directories that were made since an entry is below them.
    pub fn implied_directories(&self) -> u64 {
        self.implied.load(Ordering::Relaxed)
    }

    /// Puts an item into the tree.
    pub fn place(&self, item: &Item) -> Result<Placed, Errno> {
        match self.try_place(item) {
            Ok(placed) => Ok(placed),
            Err(DirectoryError::Trashed) => Ok(Placed::Hidden),
            Err(DirectoryError::Os(errno)) => Err(errno),
        }
    }

    fn try_place(&self, item: &Item) -> Result<Placed, DirectoryError> {
        let version = item.version;
        if matches!(item.node, Node::Opaque) {
            let Some((directory, _)) = self.walk(version, &item.path)? else { return Ok(Placed::Hidden) };
            let mut inner = directory.lock();
            inner.opaque = inner.opaque.max(version.layer_start());
            return Ok(Placed::Done);
        }
        if item.path.is_empty() {
            set_meta(&self.root, item);
            return Ok(Placed::Done);
        }
        let (above, name) = split(&item.path);
        let Some((directory, hidden)) = self.walk(version, above)? else { return Ok(Placed::Hidden) };
        let mut inner = directory.lock();
        let hidden = hidden.max(inner.opaque);
        let child = inner.children.entry(name.into()).or_default();
        if matches!(item.node, Node::Whiteout) {
            child.hidden_below = child.hidden_below.max(version.layer_start());
            if child.version < child.hidden_below {
                self.unlink(&directory, name, child)?;
            }
            return Ok(Placed::Done);
        }
        if version < hidden.max(child.hidden_below) {
            return Ok(Placed::Hidden);
        }
        if matches!(item.node, Node::Directory) {
            if !matches!(child.kind, Kind::Directory(_)) {
                self.unlink(&directory, name, child)?;
                child.kind = Kind::Directory(self.open.make(&directory, name)?);
            }
            let Kind::Directory(made) = &child.kind else { unreachable!("made above") };
            made.raise_top(version);
            set_meta(made, item);
            return Ok(Placed::Done);
        }
        child.hidden_below = version;
        if let Kind::Directory(there) = &child.kind {
            if there.top() > version {
                return Ok(Placed::Hidden);
            }
            there.set_trashed();
            let number = self.trashed.fetch_add(1, Ordering::Relaxed);
            rustix::fs::renameat(&*self.open.descriptor(&directory)?, name, &self.trash, number.to_string())?;
            child.kind = Kind::Absent;
        }
        self.unlink(&directory, name, child)?;
        child.version = version;
        child.mode = item.mode;
        child.owner = item.owner.clone();
        let (kind, placed) = match &item.node {
            Node::File(size) => {
                let parent = self.open.descriptor(&directory)?;
                (Kind::File { size: *size }, Placed::File(create(parent.as_fd(), name)?))
            }
            Node::Symlink(target) => {
                let parent = self.open.descriptor(&directory)?;
                rustix::fs::symlinkat(&**target, &*parent, name)?;
                let times = Timestamps { last_access: item.mtime, last_modification: item.mtime };
                rustix::fs::utimensat(&*parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                (Kind::Symlink, Placed::Done)
            }
            Node::HardLink(target) => (Kind::HardLink(target.as_slice().into()), Placed::Done),
            _ => (Kind::Device, Placed::Done),
        };
        child.kind = kind;
        Ok(placed)
    }

    /// The directory `path` and what is hidden at it, making what is missing; `None` if it is hidden from `version`.
    fn walk(&self, version: Version, path: &[u8]) -> Result<Option<(Arc<Directory>, Version)>, DirectoryError> {
        let mut here = Arc::clone(&self.root);
        let mut hidden = Version::NONE;
        for name in components(path) {
            let mut inner = here.lock();
            hidden = hidden.max(inner.opaque);
            let found = inner.children.get(name).map_or(Version::NONE, |child| child.hidden_below);
            hidden = hidden.max(found);
            if version < hidden {
                return Ok(None);
            }
            let next = match inner.children.get(name).map(|child| &child.kind) {
                Some(Kind::Directory(next)) => Arc::clone(next),
                _ => {
                    let child = inner.children.entry(name.into()).or_default();
                    self.unlink(&here, name, child)?;
                    let made = self.open.make(&here, name)?;
                    self.implied.fetch_add(1, Ordering::Relaxed);
                    child.kind = Kind::Directory(Arc::clone(&made));
                    made
                }
            };
            next.raise_top(version);
            drop(inner);
            here = next;
        }
        Ok(Some((here, hidden)))
    }

    /// The directory that holds `path`, if the entry there is visible.
    pub fn find(&self, path: &[u8]) -> Option<(Arc<Directory>, Version)> {
        let mut here = Arc::clone(&self.root);
        let mut hidden = Version::NONE;
        for name in components(split(path).0) {
            let inner = here.lock();
            let child = inner.children.get(name)?;
            hidden = hidden.max(inner.opaque).max(child.hidden_below);
            let Kind::Directory(next) = &child.kind else { return None };
            let next = Arc::clone(next);
            drop(inner);
            here = next;
        }
        let opaque = here.lock().opaque;
        Some((here, hidden.max(opaque)))
    }

    /// Removes what is at `name`, unless it is a directory.
    pub fn unlink(&self, directory: &Arc<Directory>, name: &[u8], child: &mut Child) -> Result<(), DirectoryError> {
        match child.kind {
            Kind::Absent | Kind::Directory(_) => return Ok(()),
            // Not made, or not yet.
            Kind::HardLink(_) | Kind::Device => {}
            Kind::File { .. } | Kind::Symlink => {
                rustix::fs::unlinkat(&*self.open.descriptor(directory)?, name, AtFlags::empty())?;
            }
        }
        child.kind = Kind::Absent;
        child.version = Version::NONE;
        child.owner = None;
        Ok(())
    }

    /// A new file that no name of the tree leads to yet, and its name in the trash.
    pub fn create_in_trash(&self) -> Result<(File, String), Errno> {
        let name = self.trashed.fetch_add(1, Ordering::Relaxed).to_string();
        Ok((create(self.trash.as_fd(), name.as_bytes())?, name))
    }
}

fn set_meta(directory: &Directory, item: &Item) {
    let mut inner = directory.lock();
    if item.version > inner.meta.version {
        inner.meta = Meta {
            version: item.version,
            mode: item.mode,
            owner: item.owner.clone(),
            mtime: item.mtime,
            xattrs: item.xattrs.clone(),
        };
    }
}

fn create(parent: BorrowedFd<'_>, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?))
}
