//! Namespaces of this process and the ID maps of its user namespace (user_namespaces(7)).
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// For so long threads may end: pthread_join(3) returns a little before the kernel has taken a thread off the process.
const THREADS_END: Duration = Duration::from_secs(1);

/// Moves this process into a user namespace of its own, and into those of `flags` that belong to it; threads that were
/// joined may still be ending.
///
/// # Errors
/// EINVAL if the process has threads, EPERM where a site forbids it or the caller is chrooted, ENOSPC or EUSERS at the
/// limits of user_namespaces(7).
pub fn unshare_with_user(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: FILES, FS and SYSVSEM are not among the flags, so no descriptor table or directory is shared less than
    // other threads assume; NEWUSER itself is refused by the kernel where there are threads.
    when_threads_end(|| unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | flags) })
}

/// Does `work` again while it is EINVAL and threads are ending.
fn when_threads_end(work: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let since = Instant::now();
    loop {
        match work() {
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

/// A namespace that processes are in, held open.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    inode: u64,
}

impl Namespace {
    /// The namespace `kind` (a name below /proc/PID/ns) of process `pid`.
    ///
    /// # Errors
    /// ENOENT if the process is gone; EACCES if it is not ours to look at (ptrace(2), access mode checking): another
    /// user's, or its program may be executed and not be read.
    pub fn of(pid: u32, kind: &str) -> io::Result<Self> {
        let file = match File::open(format!("/proc/{pid}/ns/{kind}")) {
            // Its first thread has ended and others go on.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {
                let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
                tasks
                    .map(|task| task.path().join("ns").join(kind))
                    .find_map(|path| File::open(path).ok())
                    .ok_or(gone)?
            }
            other => other?,
        };
        Ok(Self { inode: file.metadata()?.ino(), fd: file.into() })
    }

    /// What tells it from every other that exists now.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Enters the user namespace that owns it (ioctl_ns(2), Linux 4.9).
    ///
    /// # Errors
    /// EPERM if that is none of ours; else as [`Self::enter`].
    pub fn enter_owner(&self) -> io::Result<()> {
        const NS_GET_USERNS: libc::Ioctl = 0xb701;
        // SAFETY: takes no argument; the result is a new descriptor or -1.
        let fd = unsafe { libc::ioctl(self.fd.as_raw_fd(), NS_GET_USERNS) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened it for us, close-on-exec.
        enter(&unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Enters it; with a mount namespace, `/` and the working directory become its root. Threads that were joined may still
    /// be ending.
    ///
    /// # Errors
    /// Those of setns(2): EPERM without the capability in it, EINVAL for a user namespace of a process with threads.
    pub fn enter(&self) -> io::Result<()> {
        enter(&self.fd)
    }
}

fn enter(namespace: &OwnedFd) -> io::Result<()> {
    // Its own kind is the only one that the kernel takes; 0 leaves that to the kernel.
    Ok(when_threads_end(|| rustix::thread::move_into_link_name_space(namespace.as_fd(), None::<LinkNameSpaceType>))?)
}

/// Brings the loopback device of this process's network namespace up, as a machine has it.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in it; those of socket(2).
pub fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: an all-zero ifreq is one; it is filled with the name and the flags (netdevice(7)) and outlives both calls.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Whether this process's user namespace is another than the machine's: there, all IDs are mapped.
pub fn is_nested() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// The inode of this process's namespace `kind`.
///
/// # Errors
/// Those of stat(2).
pub fn own_inode(kind: &str) -> io::Result<u64> {
    Ok(std::fs::metadata(format!("/proc/self/ns/{kind}"))?.ino())
}

/// The kernel takes these files in a single write only.
fn write_once(path: &str, bytes: &[u8]) -> io::Result<()> {
    let written = OpenOptions::new().write(true).open(path)?.write(bytes)?;
    if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
