//! Namespaces of this process and the ID maps of its user namespace (user_namespaces(7)).
#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// For so long threads may end: pthread_join(3) returns a little before the kernel has taken a thread off the process.
const THREADS_END: Duration = Duration::from_secs(1);

/// Moves this process into a user and a mount namespace of its own; threads that were joined may still be ending.
///
/// # Errors
/// EINVAL if the process has threads, EPERM where a site forbids it or the caller is chrooted, ENOSPC or EUSERS at the
/// limits of user_namespaces(7).
pub fn unshare_user_and_mount() -> rustix::io::Result<()> {
    let since = Instant::now();
    loop {
        // SAFETY: FILES, FS and SYSVSEM are not among the flags, so no descriptor table or directory is shared less than
        // other threads assume; NEWUSER itself is refused by the kernel where there are threads.
        match unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) } {
            Err(Errno::INVAL) if since.elapsed() < THREADS_END && has_threads() => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn has_threads() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1)
}

/// Forbids setgroups(2) in this process's user namespace; needed before an unprivileged [`write_gid_map`].
///
/// # Errors
/// EPERM once a gid map is written; those of open(2).
pub fn deny_setgroups() -> io::Result<()> {
    write_once("/proc/self/setgroups", b"deny")
}

/// Maps the one user `inside` to the caller's `outside`.
///
/// # Errors
/// EPERM if `outside` is not the effective user or has no ID in the parent namespace.
pub fn write_uid_map(inside: u32, outside: u32) -> io::Result<()> {
    write_once("/proc/self/uid_map", format!("{inside} {outside} 1\n").as_bytes())
}

/// Maps the one group `inside` to the caller's `outside`.
///
/// # Errors
/// As [`write_uid_map`]; EPERM also before [`deny_setgroups`].
pub fn write_gid_map(inside: u32, outside: u32) -> io::Result<()> {
    write_once("/proc/self/gid_map", format!("{inside} {outside} 1\n").as_bytes())
}

/// The kernel takes these files in a single write only.
fn write_once(path: &str, bytes: &[u8]) -> io::Result<()> {
    let written = OpenOptions::new().write(true).open(path)?.write(bytes)?;
    if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
