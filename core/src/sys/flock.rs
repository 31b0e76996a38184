//! An exclusive flock(2) that is waited for with an end: the kernel wakes the waiter, and frees the lock of the dead.
#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, Result};

/// Whether an alarm came that is none of ours: the caller may have set one before it became this program (alarm(2)).
static CALLERS: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a structure that is valid while it runs.
    if unsafe { (*info).si_code } != libc::SI_TIMER {
        CALLERS.store(true, Ordering::Relaxed);
    }
}

/// Locks the file that `fd` is open on; after `tell_after` calls `told` once, after `limit` gives up.
///
/// # Errors
/// [`Errno::TIMEDOUT`] after `limit`, else those of flock(2) and timer_create(2).
pub fn lock_exclusive(fd: impl AsFd, tell_after: Duration, limit: Duration, told: &mut dyn FnMut()) -> Result<()> {
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {}
        other => return other,
    }
    let mut alarm = Alarm::new()?;
    let since = Instant::now();
    let mut next = tell_after.min(limit);
    loop {
        alarm.ring_in(next.saturating_sub(since.elapsed()));
        match flock(&fd, FlockOperation::LockExclusive) {
            Err(Errno::INTR) if since.elapsed() >= limit => return Err(Errno::TIMEDOUT),
            Err(Errno::INTR) if since.elapsed() >= next => {
                told();
                next = limit;
            }
            // It does what it would have done without us.
            Err(Errno::INTR) if CALLERS.load(Ordering::Relaxed) => {
                drop(alarm);
                alarm = Alarm::new()?;
            }
            // Another signal, or the alarm rang a moment early.
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// A timer whose signal, SIGALRM, interrupts this thread's system calls and does nothing else, until dropped. An alarm of
/// somebody else's is noted.
struct Alarm {
    timer: libc::timer_t,
    action: libc::sigaction,
    mask: libc::sigset_t,
}

impl Alarm {
    fn new() -> Result<Self> {
        // SAFETY: all structures live on the stack and are filled before they are read; the handler does nothing.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGALRM;
            // libc::gettid() is no function in a static program with LTO: std refers to it weakly, and so it is left out.
            event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
            let mut alarm = Self { timer: std::mem::zeroed(), action: std::mem::zeroed(), mask: std::mem::zeroed() };
            if libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut alarm.timer) != 0 {
                return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN));
            }
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = note as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO;
            let mut only: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut only, libc::SIGALRM);
            libc::sigaction(libc::SIGALRM, &raw const ours, &raw mut alarm.action);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const only, &raw mut alarm.mask);
            Ok(alarm)
        }
    }

    /// One that rings before the lock is asked for is lost, so it is repeated every second.
    fn ring_in(&self, wait: Duration) {
        let first = libc::timespec {
            tv_sec: wait.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(wait.subsec_nanos().max(1)),
        };
        let times = libc::itimerspec { it_interval: libc::timespec { tv_sec: 1, tv_nsec: 0 }, it_value: first };
        // SAFETY: the timer lives as long as `self`; the kernel reads one structure that outlives the call.
        unsafe { libc::timer_settime(self.timer, 0, &raw const times, std::ptr::null_mut()) };
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer and the structures were made in `new`; a signal of the timer that waits is taken by our
        // handler when the mask is still open.
        unsafe {
            libc::timer_delete(self.timer);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut());
            libc::sigaction(libc::SIGALRM, &raw const self.action, std::ptr::null_mut());
            if CALLERS.swap(false, Ordering::Relaxed) {
                libc::raise(libc::SIGALRM);
            }
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
