//! Mount points that a read-only root lacks.
//!
//! The deepest directory that exists is covered by a tmpfs directory with recursive binds of all its entries; there the
//! missing names are made, and then it is made read-only. The image is not touched.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};

use super::root::make_directory;
use crate::sys::mount;
use crate::sys::resolve::{self, MakeKind};

/// Covering a directory costs a mount per entry.
const MAX_OPTIONAL_ENTRIES: usize = 512;
const ENTRY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directories covered so far.
pub(super) struct Underlay<'a> {
    scratch: &'a OwnedFd,
    count: u32,
    /// Still writable.
    open: Vec<OwnedFd>,
}

impl<'a> Underlay<'a> {
    pub fn new(scratch: &'a OwnedFd) -> Self {
        Self { scratch, count: 0, open: Vec::new() }
    }

    /// Whether names can be made in `directory` at once.
    pub fn covers(&self, directory: &OwnedFd) -> Result<bool> {
        Ok(rustix::fs::fstat(directory)?.st_dev == rustix::fs::fstat(self.scratch)?.st_dev)
    }

    /// Covers `directory`; returns what to use instead of it if it is the root itself.
    pub fn cover(&mut self, directory: &OwnedFd, is_root: bool) -> Result<Option<OwnedFd>> {
        self.count += 1;
        let name = format!("cover{}", self.count);
        let copy = make_directory(self.scratch, &name)?;
        let readable =
            rustix::fs::openat(directory, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for entry in Dir::new(readable)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                copy_entry(directory, &copy, OsStr::from_bytes(entry.file_name().to_bytes()))?;
            }
        }
        let mode = Mode::from_raw_mode(rustix::fs::fstat(directory)?.st_mode);
        rustix::fs::chmodat(self.scratch, name.as_str(), mode, AtFlags::empty())?;
        let point = if is_root { &copy } else { directory };
        mount::bind_recursive(&copy, point)?;
        if !is_root {
            return Ok(None);
        }
        let root = rustix::fs::openat(self.scratch, name.as_str(), ENTRY, Mode::empty())?;
        self.open.push(root.try_clone().map_err(|_| Errno::MFILE)?);
        Ok(Some(root))
    }

    /// Takes note of a covered directory, to be made read-only by [`Self::close`].
    pub fn keep(&mut self, top: OwnedFd) {
        self.open.push(top);
    }

    /// Makes all that was covered read-only.
    pub fn close(self) -> Result<()> {
        self.open.iter().try_for_each(mount::make_read_only)
    }
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> Result<()> {
    let source = rustix::fs::openat(from, name, ENTRY, Mode::empty())?;
    let kind = match FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&source, c"", Vec::new())?;
            return rustix::fs::symlinkat(target.as_c_str(), to, name);
        }
        FileType::Directory => MakeKind::Directory,
        _ => MakeKind::File,
    };
    let point = resolve::make(to, &[name.to_owned()], kind)?;
    mount::bind_recursive(source.as_fd(), point.as_fd())
}

/// Whether covering `directory` is too dear for an optional mount.
pub(super) fn is_too_large(directory: &OwnedFd) -> Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entries = Dir::new(rustix::fs::openat(directory, c".", flags, Mode::empty())?)?;
    Ok(entries.take(MAX_OPTIONAL_ENTRIES + 3).count() > MAX_OPTIONAL_ENTRIES + 2)
}
