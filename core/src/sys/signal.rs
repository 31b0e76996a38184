//! Signals: dispositions, and signals that are read instead of handled.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Gives SIGPIPE its default action back.
///
/// For a program that execs after Rust's start-up code ran: that code ignores SIGPIPE, and an ignored signal stays
/// ignored over an exec: without this, `yes | head` in a container never ends. Whether the caller of our program had it
/// ignored is lost by then. The signal mask is left alone.
pub fn restore_sigpipe() {
    // SAFETY: SIG_DFL is a valid disposition and runs no code of ours. It cannot fail for SIGPIPE.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Does `work`, in which SIGPIPE is an error of write(2), for a program without Rust's start-up code. The disposition is put
/// back: a program that is executed later inherits its caller's.
pub fn without_sigpipe<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: SIG_IGN is a valid disposition and runs no code of ours. It cannot fail for SIGPIPE.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let result = work();
    // SAFETY: as above; no handler of ours was set before.
    unsafe { libc::signal(libc::SIGPIPE, before) };
    result
}

/// Holds back every signal that can be.
pub fn block_all() {
    // SAFETY: the set lives on the stack and is filled before the kernel reads it.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Signals that are blocked, and read from a descriptor (signalfd(2)).
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// A signal that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Its number.
    pub signal: i32,
    /// Whether the kernel sent it, as a terminal's keys do.
    pub from_kernel: bool,
}

impl SignalFd {
    /// Blocks `signals` in this thread, from now on; reading does not wait.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: the set is emptied before it is filled and lives on the stack; the descriptor is new, and ours alone.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// The next signal, if one is there.
    pub fn next(&self) -> Option<Arrived> {
        // SAFETY: plain numbers, for which all zeroes are valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the kernel writes at most `size` bytes, and only whole structures.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
        let is_whole = usize::try_from(read) == Ok(size);
        is_whole.then_some(Arrived { signal: info.ssi_signo as i32, from_kernel: info.ssi_code == libc::SI_KERNEL })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Stops this process by SIGTSTP, which it has blocked, as a terminal does; returns once it goes on. A process whose group is
/// orphaned goes on at once, as nobody could continue it.
pub fn stop_by_terminal() {
    // SAFETY: the set is emptied before it is filled and lives on the stack; SIG_DFL is a valid disposition.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTSTP);
        let before = libc::signal(libc::SIGTSTP, libc::SIG_DFL);
        libc::raise(libc::SIGTSTP);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signal(libc::SIGTSTP, before);
    }
}

/// The signals that this process ignores: bit N - 1 for signal N.
pub fn ignored() -> u64 {
    let is_ignored = |signal: i32| {
        // SAFETY: plain data, for which all zeroes are valid; without a new action the call only writes the old one.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
        }
    };
    (1..=64).filter(|signal| is_ignored(*signal)).fold(0, |all, signal| all | 1 << (signal - 1))
}
