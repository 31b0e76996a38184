//! A child that runs in our place: signals pass through, stop and continue are mirrored, its end is ours.
#![allow(unsafe_code)]

use std::os::fd::IntoRawFd;
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
/// Its list of children, if signals are for them; -1: they are for itself.
static CHILDREN: AtomicI32 = AtomicI32::new(-1);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By exit.
    Status(u8),
    /// By a signal.
    Signal(i32),
}

impl Ended {
    /// Ends this process by the signal that ended the child, if one did; returns the status to exit with otherwise.
    ///
    /// No core is dumped: the child's own is the one that tells something.
    pub fn mirror(self) -> u8 {
        let signal = match self {
            Self::Status(status) => return status,
            Self::Signal(signal) => signal,
        };
        // SAFETY: the limit and the set are fully initialised; the calls take numbers and read what they are given.
        unsafe {
            let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
            let mut only: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut only, signal);
            libc::signal(signal, libc::SIG_DFL);
            libc::sigprocmask(libc::SIG_UNBLOCK, &raw const only, std::ptr::null_mut());
            libc::raise(signal);
        }
        // Signals that end nobody by default end no child either: this is not reached by those that the kernel reports.
        128 + signal as u8
    }
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
    if child <= 0 || from_kernel {
        return;
    }
    let list = CHILDREN.load(Ordering::Relaxed);
    if list < 0 {
        // SAFETY: kill(2) is async-signal-safe and takes integers.
        unsafe { libc::kill(child, signal) };
        return;
    }
    let mut text = [0u8; 1024];
    // SAFETY: pread(2) is async-signal-safe and writes at most the bytes that are announced.
    let count = unsafe { libc::pread(list, text.as_mut_ptr().cast(), text.len(), 0) };
    let text = &text[..usize::try_from(count).unwrap_or(0)];
    for pid in pids(text) {
        // SAFETY: kill(2) is async-signal-safe and takes integers.
        unsafe { libc::kill(pid, signal) };
    }
}

/// The numbers in a list of proc_pid_task_children(5). Allocates nothing.
fn pids(text: &[u8]) -> impl Iterator<Item = i32> {
    text.split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
        .map(|word| word.iter().fold(0i32, |pid, digit| pid.wrapping_mul(10).wrapping_add(i32::from(*digit & 15))))
        .filter(|pid| *pid > 0)
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

    /// The same for a child that passes no signals on to the program that it starts: they go to its children. What these
    /// leave behind comes to this process. See [`Self::wait_for_all`].
    ///
    /// # Errors
    /// Those of prctl(2), fork(2) and open(2): the lists of children need CONFIG_PROC_CHILDREN.
    pub fn start_through(work: impl FnOnce() -> u8) -> Result<Self, SuperviseError> {
        let failed = |step| move |source| SuperviseError { step, source };
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(failed("adopt processes"))?;
        let child = Self::start(work)?;
        let list = format!("/proc/{0}/task/{0}/children", child.0);
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let list = rustix::fs::open(list, flags, rustix::fs::Mode::empty()).map_err(failed("list processes"))?;
        CHILDREN.store(list.into_raw_fd(), Ordering::Relaxed);
        Ok(child)
    }

    /// Waits for the end as [`Self::wait`], then kills what is left of the child's descendants.
    ///
    /// # Errors
    /// See [`Self::wait`].
    pub fn wait_for_all(self) -> Result<Ended, SuperviseError> {
        let ended = self.wait()?;
        let own = format!("/proc/self/task/{}/children", rustix::thread::gettid().as_raw_nonzero());
        loop {
            // They come to us one generation after the other.
            for pid in pids(&std::fs::read(&own).unwrap_or_default()) {
                // SAFETY: kill(2) takes integers.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            // SAFETY: waitpid(2) takes a null pointer for a status that nobody wants.
            match check(unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) }) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return Ok(ended),
            }
        }
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
