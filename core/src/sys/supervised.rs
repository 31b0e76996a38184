//! A child that runs in our place: signals pass through, stop and continue are mirrored, its end is ours.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;

fn check(result: i32) -> Result<i32, Errno> {
    if result != -1 {
        return Ok(result);
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Signals that are passed on. INT, QUIT and TSTP of a terminal reach the child by its process group already, but those
/// sent to us alone must not be lost: they are passed on unless the kernel sent them.
const FORWARDED: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGALRM,
    libc::SIGXCPU,
    libc::SIGTSTP,
];

static CHILD: AtomicI32 = AtomicI32::new(0);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By exit.
    Status(u8),
    /// By a signal.
    Signal(i32),
}

/// A child under supervision.
#[derive(Debug)]
pub struct Supervised(i32);

/// A step of supervision failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct SuperviseError {
    step: &'static str,
    #[source]
    source: Errno,
}

impl crate::error::Explain for SuperviseError {
    fn kind(&self) -> crate::error::ErrorKind {
        crate::error::ErrorKind::System
    }
}

extern "C" fn forward(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let child = CHILD.load(Ordering::Relaxed);
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo.
    let from_kernel = unsafe { (*info).si_code } > 0;
    if child > 0 && !from_kernel {
        // SAFETY: kill(2) is async-signal-safe and takes integers.
        unsafe { libc::kill(child, signal) };
    }
}

impl Supervised {
    /// Forks; the child runs `work` and exits with its status. The caller must be single-threaded.
    pub fn start(work: impl FnOnce() -> u8) -> Result<Self, SuperviseError> {
        let failed = |step| move |source| SuperviseError { step, source };
        // Signals wait until the parent knows its child and the child has its own dispositions.
        // SAFETY: the sets live on the stack and are initialised by sigfillset before use.
        let old = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
            old
        };
        // SAFETY: single-threaded by contract, so the child may do anything the parent could.
        let pid = check(unsafe { libc::fork() }).map_err(failed("fork a child"))?;
        let restore = || {
            // SAFETY: `old` was filled by the kernel above.
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const old, std::ptr::null_mut()) }
        };
        if pid == 0 {
            restore();
            let status = work();
            // SAFETY: ends this process without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(status)) };
        }
        CHILD.store(pid, Ordering::Relaxed);
        for signal in FORWARDED {
            // SAFETY: the action is fully initialised; the handler is async-signal-safe.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = forward as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
                libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            }
        }
        restore();
        Ok(Self(pid))
    }

    /// Its process ID.
    pub fn pid(&self) -> i32 {
        self.0
    }

    /// For a caller that waits by itself: the child has ended, and signals go nowhere.
    pub fn forget(self) {
        CHILD.store(0, Ordering::Relaxed);
    }

    /// Waits for the end; when the child stops, so do we, and when we are continued, so is the child.
    pub fn wait(self) -> Result<Ended, SuperviseError> {
        loop {
            let mut status = 0;
            // SAFETY: waitpid(2) writes one integer that outlives the call.
            match check(unsafe { libc::waitpid(self.0, &raw mut status, libc::WUNTRACED) }) {
                Err(Errno::INTR) => continue,
                Err(source) => return Err(SuperviseError { step: "wait for the child", source }),
                Ok(_) => {}
            }
            if libc::WIFSTOPPED(status) {
                // SAFETY: raise(3) and kill(2) take integers; we go on here after SIGCONT.
                unsafe {
                    libc::raise(libc::SIGSTOP);
                    libc::kill(self.0, libc::SIGCONT);
                }
                continue;
            }
            CHILD.store(0, Ordering::Relaxed);
            return Ok(match libc::WIFSIGNALED(status) {
                true => Ended::Signal(libc::WTERMSIG(status)),
                false => Ended::Status(libc::WEXITSTATUS(status) as u8),
            });
        }
    }
}
