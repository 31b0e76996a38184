//! Mounts by descriptor: mount(2) on `/proc/self/fd/N` paths (race-free on every kernel), newer calls where they are
//! cheaper or do more.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::fds::FdPath;

/// Magic numbers of linux/magic.h, as fstatfs(2) reports them.
pub const TMPFS_MAGIC: u64 = 0x0102_1994;
/// See [`TMPFS_MAGIC`].
pub const OVERLAYFS_MAGIC: u64 = 0x794c_7630;
/// See [`TMPFS_MAGIC`].
pub const PROC_MAGIC: u64 = 0x9fa0;

/// Makes all mounts of this namespace receive what the parent mounts, and send nothing back.
///
/// # Errors
/// EPERM without `CAP_SYS_ADMIN` in the namespace's owner.
pub fn make_all_slaves() -> Result<()> {
    rustix::mount::mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
}

/// Makes recursive binds of what lies above `mount` leave it and all below it out.
///
/// # Errors
/// EINVAL if `mount` is not the root of a mount.
pub fn make_unbindable(mount: impl AsFd) -> Result<()> {
    rustix::mount::mount_change(FdPath::new(mount.as_fd()).as_c_str(), MountPropagationFlags::UNBINDABLE)
}

/// Takes [`make_unbindable`] back.
///
/// # Errors
/// EINVAL if `mount` is not the root of a mount.
pub fn make_private(mount: impl AsFd) -> Result<()> {
    rustix::mount::mount_change(FdPath::new(mount.as_fd()).as_c_str(), MountPropagationFlags::PRIVATE)
}

/// Binds `source` on `target`, with all mounts below it.
///
/// # Errors
/// ENOTDIR if one is a directory and the other is not, EINVAL if `source` is of another mount namespace.
pub fn bind_recursive(source: impl AsFd, target: impl AsFd) -> Result<()> {
    if clone_and_move(source.as_fd(), target.as_fd()).is_ok() {
        return Ok(());
    }
    rustix::mount::mount_bind_recursive(FdPath::new(source.as_fd()).as_c_str(), FdPath::new(target.as_fd()).as_c_str())
}

/// Binds by open_tree(2) and move_mount(2) (5.2): two lookups in /proc fewer than by mount(2), a tenth of an entry's time.
///
/// Where it fails, mount(2) is asked: it exists everywhere, and its errno tells more (ENOTDIR instead of EINVAL).
fn clone_and_move(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let copy = open_tree(source, c"", flags)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(copy, c"", target, c"", empty)
}

/// Binds `source` on `target` without the mounts below it.
///
/// # Errors
/// As [`bind_recursive`]; EINVAL also if there are inherited mounts below, which the kernel does not uncover.
pub fn bind(source: impl AsFd, target: impl AsFd) -> Result<()> {
    rustix::mount::mount_bind(FdPath::new(source.as_fd()).as_c_str(), FdPath::new(target.as_fd()).as_c_str())
}

/// Mounts a fresh tmpfs on `target`; `options` as tmpfs(5) has them.
///
/// # Errors
/// EINVAL for bad options, ENOTDIR if `target` is no directory.
pub fn tmpfs(target: impl AsFd, options: &CStr, read_only: bool) -> Result<()> {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, read_only);
    rustix::mount::mount(c"tmpfs", FdPath::new(target.as_fd()).as_c_str(), c"tmpfs", flags, Some(options))
}

/// Mounts an overlay of `lowers` (the uppermost first) on `target`; without an upper and a work directory it is read-only,
/// and needs two lowers.
///
/// # Errors
/// EINVAL on kernels before 5.11 or if a file system cannot serve, ENODEV without overlayfs.
pub fn overlay(
    lowers: &[BorrowedFd<'_>],
    writable: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
    target: BorrowedFd<'_>,
) -> Result<()> {
    let mut options = String::with_capacity(128);
    options.push_str("lowerdir=");
    for (index, lower) in lowers.iter().enumerate() {
        options.push_str(if index > 0 { ":" } else { "" });
        options.push_str(FdPath::new(*lower).as_str());
    }
    if let Some((upper, work)) = writable {
        for (name, fd) in [(",upperdir=", upper), (",workdir=", work)] {
            options.push_str(name);
            options.push_str(FdPath::new(fd).as_str());
        }
    }
    options.push_str(",userxattr\0");
    let options = CStr::from_bytes_with_nul(options.as_bytes()).expect("the one NUL is the last byte");
    let target = FdPath::new(target);
    rustix::mount::mount(c"overlay", target.as_c_str(), c"overlay", MountFlags::empty(), Some(options))
}

/// Makes the mount that `mount` is the root of read-only, and none below it.
///
/// # Errors
/// EINVAL if `mount` is not the root of a mount.
pub fn make_read_only(mount: impl AsFd) -> Result<()> {
    match set_read_only(mount.as_fd(), false) {
        Err(Errno::NOSYS | Errno::PERM) => remount_read_only(mount.as_fd()),
        done => done,
    }
}

/// Makes the mount that `mount` is the root of, and all mounts below it, read-only.
///
/// # Errors
/// EINVAL if `mount` is not the root of a mount.
pub fn make_read_only_recursive(mount: impl AsFd) -> Result<()> {
    match set_read_only(mount.as_fd(), true) {
        Err(Errno::NOSYS | Errno::PERM) => {
            remount_read_only(mount.as_fd())?;
            mounts_below(mount.as_fd())?.iter().try_for_each(|fd| remount_read_only(fd.as_fd()))
        }
        done => done,
    }
}

/// As [`make_read_only`], for kernels before 5.12.
///
/// The flags that the parent namespace locked (nosuid, nodev, noexec) are kept: a remount without them is refused.
fn remount_read_only(mount: BorrowedFd<'_>) -> Result<()> {
    let now = rustix::fs::fstatvfs(mount)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    flags.set(MountFlags::NOSUID, now.contains(StatVfsMountFlags::NOSUID));
    flags.set(MountFlags::NODEV, now.contains(StatVfsMountFlags::NODEV));
    flags.set(MountFlags::NOEXEC, now.contains(StatVfsMountFlags::NOEXEC));
    rustix::mount::mount_remount(FdPath::new(mount).as_c_str(), flags, c"")
}

/// Detaches the mount that `mount` is the root of.
///
/// # Errors
/// EINVAL if it is not one, or is locked.
pub fn detach(mount: impl AsFd) -> Result<()> {
    rustix::mount::unmount(FdPath::new(mount.as_fd()).as_c_str(), UnmountFlags::DETACH)
}

/// Makes `root`, the root of a mount, the root and current directory of this process and detaches the old root.
///
/// # Errors
/// EINVAL if the present root is the initial ramfs or no mount at all.
pub fn pivot(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(root)?;
    // Both at one place: the old root comes to lie on the new one (pivot_root(2), NOTES).
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)
}

/// The magic number of the file system that `fd` is on.
///
/// # Errors
/// Those of fstatfs(2).
pub fn file_system(fd: impl AsFd) -> Result<u64> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u64)
}

/// mount_setattr(2), 5.12.
fn set_read_only(mount: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let attributes = MountAttr { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the path is NUL-terminated, `attributes` has the size that is passed, and the kernel only reads both.
    let status = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 },
            &attributes,
            size_of::<MountAttr>(),
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

/// Opens the roots of all reachable mounts below `mount`, by /proc/self/mountinfo.
fn mounts_below(mount: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let io = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let table = std::fs::read("/proc/self/mountinfo").map_err(io)?;
    let mut fds = Vec::new();
    for (id, path) in list_below(&table, mount_id(mount)?) {
        match rustix::fs::open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            // Another mount covers it: it cannot be reached, and what covers it is in the list.
            Ok(fd) if mount_id(fd.as_fd())? != id => {}
            Ok(fd) => fds.push(fd),
            // Below a directory that we may not pass, neither may the program.
            Err(Errno::ACCESS | Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(fds)
}

/// The descendants of mount `top` in a mountinfo table (proc_pid_mountinfo(5)): ID and mount point.
fn list_below(table: &[u8], top: u64) -> Vec<(u64, PathBuf)> {
    let mut rows: Vec<(u64, u64, PathBuf)> = table.split(|byte| *byte == b'\n').filter_map(parse_row).collect();
    let mut found = vec![(top, PathBuf::new())];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at].0;
        rows.retain_mut(|(id, of, path)| {
            let is_child = *of == parent && *id != parent;
            if is_child {
                found.push((*id, std::mem::take(path)));
            }
            !is_child
        });
        at += 1;
    }
    found.split_off(1)
}

fn parse_row(row: &[u8]) -> Option<(u64, u64, PathBuf)> {
    let mut fields = row.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let escaped = fields.nth(2)?;
    let mut path = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let [first, tail @ ..] = rest {
        // Blank, tab, newline and backslash are written as three octal digits.
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = &tail[3..];
            }
            None => {
                path.push(*first);
                rest = tail;
            }
        }
    }
    Some((id, parent, PathBuf::from(std::ffi::OsString::from_vec(path))))
}

/// The ID of the mount that `fd` is on, as mountinfo numbers them.
fn mount_id(fd: BorrowedFd<'_>) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok()).ok_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_in_any_order_and_unescaped() {
        let table = b"30 20 0:1 / /a/b\\040c rw - tmpfs t rw\n20 10 0:1 / /a rw - x y rw\n10 1 0:1 / / rw - x y rw\n\
            21 10 0:1 / /z rw shared:1 - x y rw\n31 20 0:1 / /a/\\134 rw - x y rw\n";
        let expected = [(30, PathBuf::from("/a/b c")), (31, PathBuf::from("/a/\\"))];
        assert_eq!(list_below(table, 20), expected);
        assert_eq!(list_below(table, 21), []);
    }
}
