//! Signal dispositions.
#![allow(unsafe_code)]

/// Gives SIGPIPE its default action back.
///
/// Rust's start-up code ignores SIGPIPE, and an ignored signal stays ignored over an exec: without this, `yes | head`
/// in a container never ends. Whether the caller of our program had it ignored is lost by then. The signal mask is
/// left alone.
///
/// # Errors
/// Those of sigaction(2); none are known for SIGPIPE.
pub fn restore_sigpipe() -> std::io::Result<()> {
    // SAFETY: SIG_DFL is a valid disposition and runs no code of ours.
    let previous = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if previous == libc::SIG_ERR { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
