//! The only unsafe code: one small file per kernel facility. Descriptors are owned and close-on-exec, errors are `Errno`s
//! whose callers name the step.

pub mod capabilities;
pub mod exec;
pub mod fds;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod resolve;
pub mod seccomp;
pub mod supervised;

/// The result of a raw system call wrapper.
fn check(result: impl Into<i64>) -> rustix::io::Result<i64> {
    match result.into() {
        -1 => Err(last_errno()),
        value => Ok(value),
    }
}

fn last_errno() -> rustix::io::Errno {
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    rustix::io::Errno::from_raw_os_error(raw)
}
