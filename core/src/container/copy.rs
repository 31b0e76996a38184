//! Copying a tree for somebody who writes in it: reflinks where the file system has them, hard links and times kept.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{ErrorKind, Explain};

/// A tree could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A system call failed.
    #[error("cannot copy the root to {path}")]
    Io {
        /// The copy.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Explain for CopyError {
    fn kind(&self) -> ErrorKind {
        let Self::Io { source, .. } = self;
        ErrorKind::from_io(source)
    }
    fn hints(&self) -> Vec<String> {
        vec!["`--write=none` needs no copy".into()]
    }
}

/// Copies the directory `from` to the new directory `to`; files become `| 0600`, directories `| 0700`. Returns the bytes of
/// its files. Neither side follows a symbolic link.
pub fn copy_tree(from: &Path, to: &Path) -> Result<u64, CopyError> {
    let copy = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let source = rustix::fs::open(from, flags, Mode::empty())?;
        rustix::fs::mkdir(to, Mode::RWXU)?;
        let target = rustix::fs::open(to, flags, Mode::empty())?;
        let mut copier = Copier { links: HashMap::new(), root: rustix::io::fcntl_dupfd_cloexec(&target, 3)?, bytes: 0 };
        copier.directory(source, target, &mut PathBuf::new())?;
        Ok(copier.bytes)
    };
    copy().map_err(|errno: Errno| CopyError::Io { path: to.to_owned(), source: errno.into() })
}

struct Copier {
    /// Where a file with several names was copied to, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    root: OwnedFd,
    bytes: u64,
}

impl Copier {
    fn directory(&mut self, source: OwnedFd, target: OwnedFd, below: &mut PathBuf) -> Result<(), Errno> {
        for entry in Dir::read_from(&source)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." {
                continue;
            }
            let status = rustix::fs::statat(&source, name, AtFlags::SYMLINK_NOFOLLOW)?;
            below.push(std::ffi::OsStr::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(
                name.to_bytes(),
            )));
            match FileType::from_raw_mode(status.st_mode) {
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    rustix::fs::mkdirat(&target, name, Mode::RWXU)?;
                    let inner = rustix::fs::openat(&source, name, flags, Mode::empty())?;
                    self.directory(inner, rustix::fs::openat(&target, name, flags, Mode::empty())?, below)?;
                }
                FileType::Symlink => {
                    let to = rustix::fs::readlinkat(&source, name, Vec::new())?;
                    rustix::fs::symlinkat(to, &target, name)?;
                    let times = times_of(&status);
                    rustix::fs::utimensat(&target, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                }
                FileType::RegularFile => self.file(source.as_fd(), target.as_fd(), name, &status, below)?,
                // Extraction makes nothing else; what a user made in a container is not part of an image.
                _ => {}
            }
            below.pop();
        }
        let status = rustix::fs::fstat(&source)?;
        rustix::fs::fchmod(&target, Mode::from_raw_mode(status.st_mode & 0o1777 | 0o700))?;
        rustix::fs::futimens(&target, &times_of(&status))
    }

    fn file(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &CStr,
        status: &rustix::fs::Stat,
        below: &Path,
    ) -> Result<(), Errno> {
        if status.st_nlink > 1 {
            let key = (status.st_dev, status.st_ino);
            if let Some(first) = self.links.get(&key) {
                return rustix::fs::linkat(&self.root, first, target, name, AtFlags::empty());
            }
            self.links.insert(key, below.to_owned());
        }
        let from =
            rustix::fs::openat(source, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
        if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
            copy_bytes(from, &to)?;
        }
        self.bytes += status.st_size as u64;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(status.st_mode & 0o1777 | 0o600))?;
        rustix::fs::futimens(&to, &times_of(status))
    }
}

pub(super) fn copy_bytes(from: OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let to = rustix::io::fcntl_dupfd_cloexec(to, 3)?;
    // io::copy uses copy_file_range(2), then sendfile(2), then read and write.
    io::copy(&mut std::fs::File::from(from), &mut std::fs::File::from(to))
        .map(drop)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

pub(super) fn times_of(status: &rustix::fs::Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    Timestamps {
        last_access: time(status.st_atime, status.st_atime_nsec),
        last_modification: time(status.st_mtime, status.st_mtime_nsec),
    }
}

/// The bytes of all files below `directory`.
pub(super) fn tree_bytes(directory: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            total += tree_bytes(&entry.path())?;
        } else if kind.is_file() {
            total += entry.metadata()?.len();
        }
    }
    Ok(total)
}
