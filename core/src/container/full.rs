//! A layered container becomes a full one: a copy of its base with its upper layer applied.
//!
//! Files of the upper are linked, not moved, so that until the last step the layered container is whole. What marks a
//! removal in an upper directory: a character device 0/0, or the attribute `user.overlay.whiteout`; and
//! `user.overlay.opaque=y` on a directory that hides the one below (kernel: `Documentation/filesystems/overlayfs.rst`).

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::copy::{attribute, copy_bytes, copy_tree, times_of};
use super::{Container, RootWrite};
use crate::members::Kind;
use crate::store::{Patience, RunDirectory, Store, StoreError, Stores, io_error, remove_at, remove_tree};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Store {
    /// Gives `container` a `ROOT/` of its own, and returns its path. Nothing happens if it has one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while the container runs; [`StoreError::NoBase`] if its image's tree is gone; I/O.
    pub fn make_full(
        &self,
        container: &Container,
        stores: &Stores,
        run_dirs: &[PathBuf],
    ) -> Result<PathBuf, StoreError> {
        let plan = self.container_root(container, stores)?;
        let RootWrite::Layer { upper, work } = plan.write else { return Ok(plan.tree) };
        let root = container.directory.join("ROOT");
        let mark = container.directory.join("layered");
        let run = RunDirectory::open(run_dirs);
        // Of several that want it, as the ranks of a node, one makes it.
        let lock = run.as_ref().map(|run| run.lock(&format!("full-{}", container.id.0), &Patience::long(&|| {})));
        let _lock = lock.transpose()?;
        if !mark.exists() {
            return Ok(root);
        }
        let users = self.alone(container, run_dirs)?;
        let folder = self.temporary_for_container("full")?;
        let made = folder.path().join("ROOT");
        copy_tree(&plan.tree, &made)?;
        let open = |path: &PathBuf| rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(io::Error::from);
        let apply = || -> io::Result<()> { Ok(apply_directory(&open(&upper)?, &open(&made)?, Files::Linked)?) };
        apply().map_err(io_error("apply the upper layer of", &container.directory))?;
        // A crash at this place left one that nothing refers to.
        remove_tree(&root).map_err(io_error("remove", &root))?;
        fs::rename(&made, &root).map_err(io_error("publish", &root))?;
        fs::remove_file(&mark).map_err(io_error("remove", &mark))?;
        for rest in [&upper, &work] {
            remove_tree(rest).map_err(io_error("remove", rest))?;
        }
        users.map_or(Ok(()), |users| users.enlist(Kind::Rank))?;
        Ok(root)
    }
}

/// Applies a copy of the upper layer `upper` to the tree `target`; `upper` stays as it is.
pub(super) fn apply_copy(upper: &Path, target: &Path) -> io::Result<()> {
    let open = |path| rustix::fs::open(path, DIRECTORY, Mode::empty());
    Ok(apply_directory(&open(upper)?, &open(target)?, Files::Copied)?)
}

/// What becomes of the upper's files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    /// They get a second name: the upper goes afterwards.
    Linked,
    /// They stay apart.
    Copied,
}

/// Applies what is in `upper` to `target`, and gives it the mode and times of `upper`.
fn apply_directory(upper: &OwnedFd, target: &OwnedFd, files: Files) -> Result<(), Errno> {
    let has_marks = attribute(upper, c"user.overlay.opaque") == Some(b'x');
    for entry in Dir::read_from(upper)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        let status = rustix::fs::statat(upper, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::CharacterDevice if status.st_rdev == 0 => remove_at(target.as_fd(), name)?,
            FileType::RegularFile if has_marks && is_marked(upper, name)? => remove_at(target.as_fd(), name)?,
            FileType::Directory => {
                let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
                let closed = is_closed(&status);
                if closed {
                    rustix::fs::chmodat(upper, name, mode | Mode::RWXU, AtFlags::empty())?;
                }
                let from = rustix::fs::openat(upper, name, DIRECTORY, Mode::empty())?;
                if attribute(&from, c"user.overlay.opaque") == Some(b'y') {
                    remove_at(target.as_fd(), name)?;
                }
                let to = match rustix::fs::openat(target, name, DIRECTORY, Mode::empty()) {
                    Ok(to) => to,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                        remove_at(target.as_fd(), name)?;
                        rustix::fs::mkdirat(target, name, Mode::RWXU)?;
                        rustix::fs::openat(target, name, DIRECTORY, Mode::empty())?
                    }
                    Err(errno) => return Err(errno),
                };
                apply_directory(&from, &to, files)?;
                if closed {
                    rustix::fs::fchmod(&from, mode)?;
                }
            }
            FileType::Symlink | FileType::RegularFile | FileType::Fifo | FileType::Socket => {
                remove_at(target.as_fd(), name)?;
                take(upper.as_fd(), target.as_fd(), name, &status, files)?;
            }
            // A user made it in the container, and nobody can make it here.
            _ => {}
        }
    }
    let status = rustix::fs::fstat(upper)?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(status.st_mode & 0o1777 | 0o700))?;
    rustix::fs::futimens(target, &times_of(&status))
}

/// Whether the user closed a directory of theirs in the container. One of another user stays as it is.
fn is_closed(status: &rustix::fs::Stat) -> bool {
    let mode = Mode::from_raw_mode(status.st_mode);
    status.st_uid == rustix::process::geteuid().as_raw() && !mode.contains(Mode::RWXU)
}

/// The file of the upper itself; a copy if that was asked for, or where another user of the container's user namespace
/// owns it.
fn take(
    upper: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &CStr,
    status: &rustix::fs::Stat,
    files: Files,
) -> Result<(), Errno> {
    match (files, FileType::from_raw_mode(status.st_mode)) {
        (Files::Copied, FileType::Symlink) => {
            let to = rustix::fs::readlinkat(upper, name, Vec::new())?;
            rustix::fs::symlinkat(to, target, name)?;
            return rustix::fs::utimensat(target, name, &times_of(status), AtFlags::SYMLINK_NOFOLLOW);
        }
        (Files::Copied, FileType::RegularFile) => {}
        // Nobody listens at a copy.
        (Files::Copied, _) => return Ok(()),
        (Files::Linked, kind) => match rustix::fs::linkat(upper, name, target, name, AtFlags::empty()) {
            Err(Errno::PERM) if kind == FileType::RegularFile => {}
            other => return other,
        },
    }
    let from = rustix::fs::openat(upper, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
    copy_bytes(from, &to)?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(status.st_mode & 0o1777 | 0o600))?;
    rustix::fs::futimens(&to, &times_of(status))
}

fn is_marked(directory: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => Ok(rustix::fs::fgetxattr(&file, c"user.overlay.whiteout", &mut [0u8; 8][..]).is_ok()),
        // A mark is readable; what is not is a file of the user's.
        Err(Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_that_its_user_closed_is_applied() {
        let directory = tempfile::tempdir().unwrap();
        let path = |below: &str| directory.path().join(below);
        fs::create_dir_all(path("upper/closed")).unwrap();
        fs::create_dir_all(path("target")).unwrap();
        fs::write(path("upper/closed/file"), "x").unwrap();
        fs::set_permissions(path("upper/closed"), fs::Permissions::from_mode(0o050)).unwrap();
        let open = |below| rustix::fs::open(path(below), DIRECTORY, Mode::empty()).unwrap();
        apply_directory(&open("upper"), &open("target"), Files::Linked).unwrap();
        let mode = |below| path(below).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("upper/closed"), mode("target/closed")), (0o050, 0o750));
        assert_eq!(fs::read(path("target/closed/file")).unwrap(), b"x");
        fs::set_permissions(path("upper/closed"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}
