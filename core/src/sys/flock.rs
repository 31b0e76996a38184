//! An exclusive flock(2) that is waited for with an end: the kernel wakes the waiter, and frees the lock of the dead.
#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, Result};

extern "C" fn nothing(_: libc::c_int) {}

/// Locks the file that `fd` is open on; after `tell_after` calls `told` once, after `limit` gives up. Both in whole
/// seconds, at least one. Nobody else may use alarm(2) meanwhile: afterwards no alarm is set, and SIGALRM is as it was.
///
/// # Errors
/// [`Errno::TIMEDOUT`] after `limit`, else those of flock(2).
pub fn lock_exclusive(fd: impl AsFd, tell_after: Duration, limit: Duration, told: &mut dyn FnMut()) -> Result<()> {
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {}
        other => return other,
    }
    let alarms = Alarms::catch();
    let since = Instant::now();
    let mut next = tell_after.min(limit);
    loop {
        alarms.ring_in(next.saturating_sub(since.elapsed()));
        match flock(&fd, FlockOperation::LockExclusive) {
            Err(Errno::INTR) if since.elapsed() >= limit => return Err(Errno::TIMEDOUT),
            Err(Errno::INTR) if since.elapsed() >= next => {
                told();
                next = limit;
            }
            // Another signal, or the alarm rang a moment early.
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// SIGALRM that interrupts system calls and does nothing else, until dropped.
struct Alarms {
    action: libc::sigaction,
    mask: libc::sigset_t,
}

impl Alarms {
    fn catch() -> Self {
        // SAFETY: all structures live on the stack and are filled before they are read; the handler does nothing.
        unsafe {
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = nothing as *const () as usize;
            let mut only: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut only, libc::SIGALRM);
            let mut before = Self { action: std::mem::zeroed(), mask: std::mem::zeroed() };
            libc::sigaction(libc::SIGALRM, &raw const ours, &raw mut before.action);
            libc::sigprocmask(libc::SIG_UNBLOCK, &raw const only, &raw mut before.mask);
            before
        }
    }

    /// The next one; one that rings before the lock is asked for is lost, so they are repeated every second.
    fn ring_in(&self, wait: Duration) {
        let first = libc::timeval {
            tv_sec: wait.as_secs() as libc::time_t,
            tv_usec: libc::suseconds_t::from(wait.subsec_micros().max(1)),
        };
        let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 1, tv_usec: 0 }, it_value: first };
        // SAFETY: reads one structure that outlives the call.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    }
}

impl Drop for Alarms {
    fn drop(&mut self) {
        // SAFETY: the structures were filled by the kernel in `catch`; the calls read them.
        unsafe {
            let none: libc::itimerval = std::mem::zeroed();
            libc::setitimer(libc::ITIMER_REAL, &raw const none, std::ptr::null_mut());
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut());
            libc::sigaction(libc::SIGALRM, &raw const self.action, std::ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_and_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = file.reopen().unwrap();
        flock(&other, FlockOperation::LockExclusive).unwrap();
        let mut told = 0;
        let second = Duration::from_secs(1);
        let outcome = lock_exclusive(file.as_file(), second, 2 * second, &mut || told += 1);
        assert_eq!((outcome, told), (Err(Errno::TIMEDOUT), 1));
        drop(other);
        assert_eq!(lock_exclusive(file.as_file(), second, second, &mut || told += 1), Ok(()));
        assert_eq!(told, 1);
    }
}
