//! Which file descriptors an exec passes on, and paths that name a descriptor.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fmt::{self, Write};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::{Dir, FileType, Mode, OFlags};
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
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    let kept = sorted(keep);
    let mark = |fd| match with_raw(fd, |fd| rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)) {
        Ok(()) | Err(Errno::BADF) => Ok(()),
        error => error,
    };
    // With this flag the call changes descriptor flags only.
    for_all_but(&kept, CLOSE_RANGE_CLOEXEC, mark)?;
    for fd in kept {
        match with_raw(fd, |fd| rustix::io::fcntl_setfd(fd, FdFlags::empty())) {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Closes what the caller of this program left open above 2, except those in `keep`. For the begin of a program, which
/// has opened nothing itself.
///
/// # Errors
/// Where close_range(2) does not serve: those of reading /proc/self/fd.
pub fn close_inherited_except(keep: &[RawFd]) -> Result<()> {
    for_all_but(&sorted(keep), 0, |fd| {
        close(&[fd]);
        Ok(())
    })
}

/// Closes inherited descriptors, which have no owner in this process; one that is not open is passed over.
pub fn close(inherited: &[RawFd]) {
    for fd in inherited {
        // SAFETY: takes a number; by contract it belongs to no owner.
        unsafe { libc::close(*fd) };
    }
}

/// Opens /dev/null where standard streams are closed, until an exec: what this process opens must not take their numbers,
/// or messages would be written into it. The program gets them closed.
///
/// # Errors
/// Those of open(2).
pub fn hold_standard_streams() -> Result<()> {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: the kernel reads and writes three structures, which outlive the call.
    unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    for _ in streams.iter().filter(|stream| stream.revents & libc::POLLNVAL != 0) {
        let held = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        // The lowest number that is free is the next of those.
        let _stays_open = held.into_raw_fd();
    }
    Ok(())
}

/// Whether the number is an open socket.
pub fn is_socket(fd: RawFd) -> bool {
    let kind = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
    fd >= 0 && with_raw(fd, kind) == Ok(FileType::Socket)
}

/// Whether the number is open.
pub fn is_open(fd: RawFd) -> bool {
    fd >= 0 && with_raw(fd, |fd| rustix::io::fcntl_getfd(fd)).is_ok()
}

/// Gives inherited descriptors new numbers, all at once: the first of each pair is what is open, the second the number
/// that it gets as well. What was open there is closed.
///
/// # Errors
/// EBADF if a first number is not open, EMFILE or EINVAL if the process may not have so many.
pub fn renumber(pairs: &[(RawFd, RawFd)]) -> Result<()> {
    let above = pairs.iter().map(|(_, to)| to + 1).max().unwrap_or(3);
    // Through numbers that nobody asked for, so that two can change places.
    let held: Vec<OwnedFd> = pairs
        .iter()
        .map(|(from, _)| with_raw(*from, |fd| rustix::io::fcntl_dupfd_cloexec(fd, above)))
        .collect::<Result<_>>()?;
    for (fd, (_, to)) in held.iter().zip(pairs) {
        // SAFETY: takes numbers; what was open at `to` is inherited and has no owner in this process.
        if unsafe { libc::dup2(fd.as_raw_fd(), *to) } == -1 {
            return Err(last_error());
        }
    }
    Ok(())
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

fn sorted(numbers: &[RawFd]) -> Vec<RawFd> {
    let mut sorted: Vec<RawFd> = numbers.iter().copied().filter(|fd| *fd > 2).collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

/// close_range(2) with `flags` over all above 2 but `kept`, or `one_by_one` where it does not serve.
fn for_all_but(kept: &[RawFd], flags: libc::c_uint, one_by_one: impl Fn(RawFd) -> Result<()>) -> Result<()> {
    let mut first = 3;
    for fd in kept.iter().copied().chain([RawFd::MAX]) {
        if first < fd && !on_range(first, if fd == RawFd::MAX { u32::MAX } else { fd as u32 - 1 }, flags)? {
            return on_each(kept, one_by_one);
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// Returns false where the kernel is too old (close_range: 5.9, its CLOEXEC flag: 5.11) or a filter forbids the call.
fn on_range(first: RawFd, last: u32, flags: libc::c_uint) -> Result<bool> {
    // SAFETY: callers pass ranges of inherited descriptors, or the flag that closes nothing under an owner.
    match unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, last, flags) } {
        0 => Ok(true),
        _ => match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::ENOSYS | libc::EINVAL | libc::EPERM) => Ok(false),
            error => Err(Errno::from_raw_os_error(error.unwrap_or(libc::EINVAL))),
        },
    }
}

fn on_each(kept: &[RawFd], change: impl Fn(RawFd) -> Result<()>) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty())?;
    let mut numbers = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok()));
    }
    drop(directory);
    // Those of the listing are gone, and passed over.
    numbers.into_iter().filter(|fd| *fd > 2 && !kept.contains(fd)).try_for_each(change)
}

fn with_raw<T>(fd: RawFd, change: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    // SAFETY: the borrow lasts for one call, which answers EBADF if the number is not open.
    change(unsafe { BorrowedFd::borrow_raw(fd) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn two_descriptors_change_places() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        // Numbers that no other test has.
        let [a, b] = [900, 901];
        let (socket, file) = (socket.into_raw_fd(), file.into_raw_fd());
        renumber(&[(socket, a), (file, b)]).unwrap();
        assert!(is_socket(a) && is_open(b) && !is_socket(b));
        renumber(&[(a, b), (b, a)]).unwrap();
        assert!(is_socket(b) && is_open(a) && !is_socket(a));
        close(&[a, b, socket, file]);
        assert!(!is_open(a) && !is_socket(-1) && !is_open(-1));
        assert_eq!(renumber(&[(a, b)]), Err(Errno::BADF));
    }
}
