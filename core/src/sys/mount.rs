//! mount(2) by descriptors: sources and targets are `/proc/self/fd/N`, so nothing is resolved twice.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// `/proc/self/fd/N` of a descriptor.
pub fn fd_path(fd: impl AsFd) -> CString {
    let text = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    CString::new(text).expect("digits and slashes hold no NUL")
}

/// Cuts propagation back to the host; mounts of the host still arrive.
pub fn make_all_slaves() -> Result<(), Errno> {
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
}

/// Binds `source` with all below it on `target`.
pub fn bind(source: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    rustix::mount::mount_bind_recursive(fd_path(source).as_c_str(), fd_path(target).as_c_str())
}

/// Mounts a tmpfs on `target`.
pub fn tmpfs(target: &CStr, options: &CStr) -> Result<(), Errno> {
    rustix::mount::mount(c"tmpfs", target, c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)
}

/// Mounts an overlay on `target`.
pub fn overlay(target: &CStr, options: &CStr) -> Result<(), Errno> {
    rustix::mount::mount(c"overlay", target, c"overlay", MountFlags::NOSUID | MountFlags::NODEV, options)
}

/// Makes the one mount at `mounted` (a descriptor of its root) read-only; what the parent namespace locked stays.
pub fn remount_read_only(mounted: impl AsFd) -> Result<(), Errno> {
    let status = rustix::fs::fstatvfs(&mounted)?;
    remount_with(&fd_path(mounted), status.f_flag)
}

fn remount_with(path: &CStr, current: StatVfsMountFlags) -> Result<(), Errno> {
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (have, keep) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if current.contains(have) {
            flags |= keep;
        }
    }
    rustix::mount::mount_remount(path, flags, c"")
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Makes the mount at `mounted` (a descriptor of its root) and all below it read-only.
///
/// By mount_setattr(2) (Linux 5.12); before that one mount after the other, as mountinfo lists them.
pub fn read_only_recursive(mounted: impl AsFd) -> Result<(), Errno> {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const AT_RECURSIVE: u32 = 0x8000;
    let attributes = MountAttr { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns_fd: 0 };
    let flags = AT_RECURSIVE | AtFlags::EMPTY_PATH.bits();
    // SAFETY: the path is a static C string, and the kernel copies the struct of the given size before it returns.
    let result = super::check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mounted.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    });
    match result {
        Err(Errno::NOSYS) => read_only_one_by_one(mounted.as_fd()),
        other => other.map(drop),
    }
}

fn read_only_one_by_one(mounted: BorrowedFd<'_>) -> Result<(), Errno> {
    remount_read_only(mounted)?;
    let own = rustix::fs::readlink(fd_path(mounted).as_c_str(), Vec::new())?.into_bytes();
    let own = Path::new(OsStr::from_bytes(&own));
    let table = std::fs::read("/proc/self/mountinfo").map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    for point in mount_points(&table) {
        // Opened from the descriptor, since the path itself may be covered.
        let Ok(below) = point.strip_prefix(own) else { continue };
        if !below.as_os_str().is_empty() {
            remount_read_only(super::resolve::open_in_root(mounted, below, OFlags::PATH)?)?;
        }
    }
    Ok(())
}

/// The fifth field of each line of mountinfo (proc(5)), unescaped.
fn mount_points(table: &[u8]) -> impl Iterator<Item = std::path::PathBuf> + '_ {
    use std::os::unix::ffi::OsStringExt;
    table.split(|b| *b == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4)).map(|field| {
        let mut out = Vec::with_capacity(field.len());
        let mut rest = field;
        while let Some((first, tail)) = rest.split_first() {
            let octal = tail.get(..3).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
            match (first, octal) {
                (b'\\', Some(byte)) => {
                    out.push(byte);
                    rest = &tail[3..];
                }
                _ => {
                    out.push(*first);
                    rest = tail;
                }
            }
        }
        std::ffi::OsString::from_vec(out).into()
    })
}

/// Makes `root` (a mount) the root of this namespace and lets go of the old one.
pub fn pivot_into(root: impl AsFd) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    // The old root now lies on top of the new one at the same point: detaching "." takes it away.
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

#[cfg(test)]
mod tests {
    #[test]
    fn mountinfo_points_are_unescaped() {
        let table = b"1 2 0:1 / /a rw - t s o\n3 1 0:2 / /a/b\\040c rw - t s o\n";
        let points: Vec<_> = super::mount_points(table).collect();
        assert_eq!(points, [std::path::Path::new("/a"), std::path::Path::new("/a/b c")]);
    }
}
