//! Forked probes and helpers, and who a process is.
#![allow(unsafe_code)]

use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Runs `work` in a forked child and returns the byte that it ends with; the caller must be single-threaded, or `work` must
/// keep to what is safe after fork.
pub fn in_child(work: impl FnOnce() -> u8) -> Result<u8, Errno> {
    // SAFETY: by contract the child may do what `work` does; it ends by _exit and runs none of our exit handlers.
    let pid = super::check(unsafe { libc::fork() })?;
    if pid == 0 {
        let status = work();
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(status)) };
    }
    wait_status(pid as i32)
}

/// A forked helper that begins when it is told to: for newuidmap(1), which must run outside the namespace that it maps.
pub struct Helper {
    pid: i32,
    go: OwnedFd,
}

impl Helper {
    /// Forks; the child waits for [`Helper::run`] and then does `work` with the pid of this process.
    pub fn start(work: impl FnOnce(u32) -> u8) -> Result<Self, Errno> {
        let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let parent = std::process::id();
        // SAFETY: single-threaded callers only, as for all that leads to an exec; the child ends by _exit.
        let pid = super::check(unsafe { libc::fork() })?;
        if pid == 0 {
            drop(go);
            let told = rustix::io::read(&wait, &mut [0; 1]) == Ok(1);
            let status = if told { work(parent) } else { 1 };
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(status)) };
        }
        Ok(Self { pid: pid as i32, go })
    }
    /// Lets the helper work and returns its status; it is reaped.
    pub fn run(self) -> Result<u8, Errno> {
        rustix::io::write(&self.go, b"g")?;
        wait_status(self.pid)
    }
}

/// Waits for `pid` and returns its status, or 128 + n for signal n.
pub fn wait_status(pid: i32) -> Result<u8, Errno> {
    loop {
        let mut status = 0;
        // SAFETY: waitpid(2) writes one integer that outlives the call.
        match super::check(unsafe { libc::waitpid(pid, &raw mut status, 0) }) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) if libc::WIFSIGNALED(status) => return Ok(128 + libc::WTERMSIG(status) as u8),
            Ok(_) => return Ok(libc::WEXITSTATUS(status) as u8),
        }
    }
}

/// The start time of `pid` in clock ticks since boot (proc(5), field 22 of stat); `None` if there is no such process.
///
/// A pid and its start time together name one process for as long as the machine runs.
pub fn start_time(pid: u32) -> Option<u64> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The command, in parentheses, may hold anything; the last `)` ends it.
    let after = &text[text.iter().rposition(|b| *b == b')')? + 2..];
    std::str::from_utf8(after).ok()?.split(' ').nth(19)?.parse().ok()
}
