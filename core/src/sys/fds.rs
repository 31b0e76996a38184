//! Which file descriptors an exec passes on, and paths that name a descriptor.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fmt::{self, Write};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::{Errno, FdFlags, Result};

/// The path `/proc/self/fd/N`, without an allocation.
///
/// mount(2) follows it to the very file that the descriptor is open on, whatever its path leads to by now.
pub struct FdPath<'fd> {
    bytes: [u8; 32],
    length: usize,
    /// The path is true as long as the descriptor is open.
    _of: PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> FdPath<'fd> {
    /// The path of `fd`.
    pub fn new(fd: BorrowedFd<'fd>) -> Self {
        let mut path = Self { bytes: [0; 32], length: 0, _of: PhantomData };
        write!(path, "/proc/self/fd/{}", fd.as_raw_fd()).expect("14 bytes and at most 10 digits fit");
        path
    }

    /// The path for a system call.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).expect("the last byte is never written")
    }

    /// The path as text, for mount options.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("only text is written")
    }
}

impl Write for FdPath<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let room = self.bytes.get_mut(self.length..end).filter(|_| end < 32).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Marks every descriptor above 2 close-on-exec, except those in `keep`, whose mark is taken away.
///
/// A number in `keep` that is not open is passed over: it came from a variable that may be stale.
///
/// # Errors
/// Where close_range(2) does not serve: those of reading /proc/self/fd.
pub fn close_on_exec_except(keep: &[RawFd]) -> Result<()> {
    let mut kept: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    kept.dedup();
    let mut first = 3;
    let mut ranged = true;
    for fd in kept.iter().copied().chain([RawFd::MAX]) {
        if ranged && first < fd {
            ranged = mark_range(first, if fd == RawFd::MAX { u32::MAX } else { fd as u32 - 1 })?;
        }
        first = fd.saturating_add(1);
    }
    if !ranged {
        mark_one_by_one(&kept)?;
    }
    for fd in kept {
        match with_raw(fd, |fd| rustix::io::fcntl_setfd(fd, FdFlags::empty())) {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Closes every descriptor but those in `keep`, standard ones as well. What owned them must not be used any more, so this is
/// for a process that ends without running destructors.
pub fn close_all_except(keep: &[RawFd]) {
    // SAFETY: takes an integer; by contract nobody owns what is closed.
    let close = |fd: RawFd| unsafe { libc::close(fd) };
    let open = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    let mut kept = keep.to_vec();
    kept.sort_unstable();
    let mut first: RawFd = 0;
    for fd in kept.iter().copied().chain([RawFd::MAX]) {
        // SAFETY: takes integers; by contract nobody owns what is closed.
        let closed = first >= fd || unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) } == 0;
        if !closed {
            (first..fd.min(open as RawFd)).for_each(|fd| _ = close(fd));
        }
        first = fd.saturating_add(1);
    }
}

/// Returns false where the kernel is too old (close_range: 5.9, its CLOEXEC flag: 5.11) or a filter forbids the call.
fn mark_range(first: RawFd, last: u32) -> Result<bool> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: with this flag the call changes descriptor flags only; nothing is closed under an owner.
    match unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, last, CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(true),
        _ => match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::ENOSYS | libc::EINVAL | libc::EPERM) => Ok(false),
            error => Err(Errno::from_raw_os_error(error.unwrap_or(libc::EINVAL))),
        },
    }
}

fn mark_one_by_one(kept: &[RawFd]) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(fd) = number.filter(|fd| *fd > 2 && !kept.contains(fd)) {
            match with_raw(fd, |fd| rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)) {
                Ok(()) | Err(Errno::BADF) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn with_raw<T>(fd: RawFd, change: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    // SAFETY: the borrow lasts for one fcntl, which answers EBADF if the number is not open.
    change(unsafe { BorrowedFd::borrow_raw(fd) })
}
