//! Copying a tree for somebody who writes in it: reflinks where the file system has them, hard links and times kept.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
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
    let failed = |errno: Errno| CopyError::Io { path: to.to_owned(), source: errno.into() };
    rustix::fs::mkdir(to, Mode::RWXU).map_err(failed)?;
    copy_into(from, to, Kind::Image).map_err(failed)
}

/// Copies the directory `from` of a container to the new directory `to`; modes stay as they are. Returns the bytes of its
/// files.
pub(super) fn copy_root(from: &Path, to: &Path) -> Result<u64, CopyError> {
    let failed = |errno: Errno| CopyError::Io { path: to.to_owned(), source: errno.into() };
    rustix::fs::mkdir(to, Mode::RWXU).map_err(failed)?;
    copy_into(from, to, Kind::Root).map_err(failed)
}

/// Copies the upper directory `from` of an overlay into the empty directory `to`, with the marks of what it hides.
pub(super) fn copy_layer(from: &Path, to: &Path) -> Result<u64, CopyError> {
    copy_into(from, to, Kind::Layer).map_err(|errno| CopyError::Io { path: to.to_owned(), source: errno.into() })
}

fn copy_into(from: &Path, to: &Path, kind: Kind) -> Result<u64, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let source = rustix::fs::open(from, flags, Mode::empty())?;
    let target = rustix::fs::open(to, flags, Mode::empty())?;
    let root = rustix::io::fcntl_dupfd_cloexec(&target, 3)?;
    let mut copier = Copier { links: HashMap::new(), root, kind, bytes: 0 };
    copier.directory(source, target, &mut PathBuf::new())?;
    Ok(copier.bytes)
}

struct Copier {
    /// Where a file with several names was copied to, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    root: OwnedFd,
    kind: Kind,
    bytes: u64,
}

/// What is copied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An image's tree, for somebody who writes in it.
    Image,
    /// A container's ROOT: modes are its user's choice.
    Root,
    /// A container's upper directory: also the marks of what it hides.
    Layer,
}

impl Kind {
    /// The mode of a copy; at least `least` in a copy of an image.
    fn mode(self, mode: u32, least: u32) -> Mode {
        Mode::from_raw_mode(if self == Self::Image { mode & 0o1777 | least } else { mode & 0o1777 })
    }
}

/// What overlayfs marks in an upper directory (kernel: `Documentation/filesystems/overlayfs.rst`, "whiteouts and opaque
/// directories", as the mount option `userxattr` names them).
const MARKS: [&CStr; 2] = [c"user.overlay.opaque", c"user.overlay.whiteout"];

/// The first byte of an attribute.
pub(super) fn attribute(file: &OwnedFd, name: &CStr) -> Option<u8> {
    let mut value = [0; 8];
    let count = rustix::fs::fgetxattr(file, name, &mut value[..]).ok()?;
    Some(value[..count].first().copied().unwrap_or_default())
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
                    let inner = open_closed(source.as_fd(), name, flags, &status)?;
                    self.directory(inner, rustix::fs::openat(&target, name, flags, Mode::empty())?, below)?;
                }
                FileType::Symlink => {
                    let to = rustix::fs::readlinkat(&source, name, Vec::new())?;
                    rustix::fs::symlinkat(to, &target, name)?;
                    let times = times_of(&status);
                    rustix::fs::utimensat(&target, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                }
                FileType::RegularFile => self.file(source.as_fd(), target.as_fd(), name, &status, below)?,
                FileType::CharacterDevice if self.kind == Kind::Layer && status.st_rdev == 0 => {
                    // Anybody may make this one device since Linux 5.8.
                    rustix::fs::mknodat(&target, name, FileType::CharacterDevice, Mode::empty(), 0)?;
                }
                // Extraction makes nothing else; what a user made in a container is not part of an image.
                _ => {}
            }
            below.pop();
        }
        let status = rustix::fs::fstat(&source)?;
        self.copy_marks(&source, &target)?;
        rustix::fs::fchmod(&target, self.kind.mode(status.st_mode, 0o700))?;
        rustix::fs::futimens(&target, &times_of(&status))
    }

    fn copy_marks(&self, source: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
        for name in MARKS.into_iter().filter(|_| self.kind == Kind::Layer) {
            if let Some(value) = attribute(source, name) {
                let value = if value == 0 { &[][..] } else { &[value][..] };
                rustix::fs::fsetxattr(target, name, value, XattrFlags::empty())?;
            }
        }
        Ok(())
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
        let from = open_closed(source, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, status)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
        if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
            copy_bytes(rustix::io::fcntl_dupfd_cloexec(&from, 3)?, &to)?;
        }
        self.copy_marks(&from, &to)?;
        self.bytes += status.st_size as u64;
        rustix::fs::fchmod(&to, self.kind.mode(status.st_mode, 0o600))?;
        rustix::fs::futimens(&to, &times_of(status))
    }
}

/// Opens `name`, also if its owner, the caller, closed it: its mode is changed for a moment.
fn open_closed(
    parent: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlags,
    status: &rustix::fs::Stat,
) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) if status.st_uid == rustix::process::geteuid().as_raw() => {}
        other => return other,
    }
    let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
    rustix::fs::chmodat(parent, name, mode | Mode::RUSR | Mode::XUSR, AtFlags::empty())?;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
    if let Ok(file) = &opened {
        rustix::fs::fchmod(file, mode)?;
    }
    opened
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

/// The bytes that `directory` and all below it take on the disk; what may not be read counts as nothing.
pub(super) fn disk_bytes(directory: &Path) -> io::Result<u64> {
    let mut total = directory.symlink_metadata()?.blocks() * 512;
    let list = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(total),
        other => other?,
    };
    for entry in list {
        let entry = entry?;
        total += match entry.file_type()?.is_dir() {
            true => disk_bytes(&entry.path())?,
            false => entry.metadata()?.blocks() * 512,
        };
    }
    Ok(total)
}
