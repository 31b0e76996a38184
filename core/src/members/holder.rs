//! A process that keeps the namespaces of a container within reach.
//!
//! The kernel shows /proc/PID/ns of a program that its user may execute and not read to nobody but root, so ranks of such
//! a program cannot be joined by their pids. One process of ours stays beside them then. It is no child of the rank and
//! holds none of its files; it hears no signal but SIGKILL; it ends when no rank lives.

use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::{Kind, Member, Members};
use crate::sys::process::{fork_child, start_time, wait, wait_for_stranger};
use crate::sys::{fds, signal};

/// Starts one for the container of `list`, unless one lives, and adds it. For single-threaded callers in the container.
///
/// # Errors
/// Those of fork(2) and socketpair(2), and of writing the list.
pub(crate) fn start(list: &mut Members, namespace: u64) -> io::Result<()> {
    if list.living().any(|member| member.kind == Kind::Holder) {
        return Ok(());
    }
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let middle = fork_child(|| {
        let born = fork_child(|| {
            signal::block_all();
            fds::close(&[0, 1, 2]);
            // Without /proc some may stay: they are nobody's who waits for their end.
            let _all_it_can = fds::close_inherited_except(&[list.as_raw_fd(), theirs.as_raw_fd()]);
            let told = rustix::io::write(&theirs, &std::process::id().to_le_bytes());
            // Until the rank has added us, or died: the lock is one of both, and goes with the last of us.
            while told.is_ok() && rustix::io::read(&theirs, &mut [0; 1]).is_ok_and(|count| count > 0) {}
            stay(list);
            0
        });
        u8::from(born.is_err())
    })?;
    // The middle one ends, so that the holder is no child of the program which this process becomes.
    wait(middle)?;
    drop(theirs);
    let mut pid = [0; 4];
    if rustix::io::read(&ours, &mut pid)? != pid.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let pid = u32::from_le_bytes(pid);
    list.add(Member { pid, kind: Kind::Holder, start: start_time(pid)?, namespace }).map_err(io::Error::other)
}

/// Returns when no rank is in the list; nobody can be added any more then, until the lock is given up with this process.
fn stay(list: &mut Members) {
    loop {
        if list.lock_again().is_err() {
            return;
        }
        let Some(rank) = list.living().find(|member| member.kind == Kind::Rank).map(|member| member.pid) else {
            return;
        };
        list.unlock();
        wait_for_stranger(rank);
    }
}
