//! Which descriptors survive an exec.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use rustix::io::Errno;

const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// Marks every descriptor above 2 close-on-exec but those in `keep`, which lose the mark.
///
/// Uses close_range(2) with CLOSE_RANGE_CLOEXEC (Linux 5.11); before, /proc/self/fd is walked.
pub fn keep_only(keep: &[RawFd]) -> Result<(), Errno> {
    let mut kept: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    kept.dedup();
    let mut first: u32 = 3;
    let mut by_range = Ok(());
    for fd in kept.iter().map(|fd| *fd as u32).chain([u32::MAX]) {
        if fd > first {
            by_range = mark_range(first, if fd == u32::MAX { fd } else { fd - 1 });
            if by_range.is_err() {
                break;
            }
        }
        first = fd.wrapping_add(1);
    }
    match by_range {
        Err(Errno::NOSYS | Errno::INVAL) => mark_listed(&kept)?,
        other => other?,
    }
    kept.iter().try_for_each(|fd| set_close_on_exec(*fd, false))
}

fn mark_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: close_range(2) takes three integers; with CLOEXEC it closes nothing now.
    super::check(unsafe { libc::syscall(libc::SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

fn mark_listed(kept: &[RawFd]) -> Result<(), Errno> {
    let list = std::fs::read_dir("/proc/self/fd").map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    for entry in list.flatten() {
        let fd = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(fd) = fd.filter(|fd| *fd > 2 && !kept.contains(fd)) {
            match set_close_on_exec(fd, true) {
                // The directory's own descriptor may be listed and gone.
                Err(Errno::BADF) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn set_close_on_exec(fd: RawFd, set: bool) -> Result<(), Errno> {
    // SAFETY: fcntl(2) with F_SETFD takes integers; a descriptor that is not open gives EBADF.
    super::check(unsafe { libc::fcntl(fd, libc::F_SETFD, if set { libc::FD_CLOEXEC } else { 0 }) }).map(drop)
}

/// Whether `fd` is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: fcntl(2) with F_GETFD takes integers; a descriptor that is not open gives EBADF.
    super::check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).is_ok()
}
