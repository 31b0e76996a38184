//! unshare(2) and the maps of user_namespaces(7).
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;

use rustix::io::Errno;

/// Enters a new user and a new mount namespace. EINVAL if this process has threads.
pub fn unshare_user_and_mount() -> Result<(), Errno> {
    // SAFETY: unshare(2) takes flags and touches no memory of ours.
    super::check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) }).map(drop)
}

/// Makes this process dumpable (prctl(2)), so that its namespaces can be joined and its maps written.
pub fn set_dumpable() -> Result<(), Errno> {
    // SAFETY: PR_SET_DUMPABLE takes one integer.
    super::check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }).map(drop)
}

/// Writes `text` into /proc/self/`name` in one write, as the maps demand.
pub fn write_proc_self(name: &str, text: &str) -> Result<(), Errno> {
    let write = || File::options().write(true).open(format!("/proc/self/{name}"))?.write_all(text.as_bytes());
    write().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
