//! Signal dispositions.
#![allow(unsafe_code)]

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
