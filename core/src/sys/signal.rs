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

/// Turns SIGPIPE into an error of write(2), for a program without Rust's start-up code that is about to end anyway.
pub fn ignore_sigpipe() {
    // SAFETY: SIG_IGN is a valid disposition and runs no code of ours. It cannot fail for SIGPIPE.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
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
