//! A child that runs in our place: signals reach it, stop and continue are mirrored, its end is ours. Which signals are
//! passed on is told by [`super::relay`].
#![allow(unsafe_code)]

use std::os::fd::IntoRawFd;

use rustix::io::Errno;

use super::relay::{self, Looks};

fn check(result: i32) -> Result<i32, Errno> {
    if result != -1 {
        return Ok(result);
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

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

impl Supervised {
    /// Forks; the child runs `work` and exits with its status. The caller must be single-threaded.
    pub fn start(looks: Looks, work: impl FnOnce() -> u8) -> Result<Self, SuperviseError> {
        // Signals wait until the parent knows its child.
        let forked = relay::fork();
        let (pid, blocked) = forked.map_err(|source| SuperviseError { step: "fork a child", source })?;
        if pid == 0 {
            let status = work();
            // SAFETY: ends this process without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(status)) };
        }
        relay::begin(pid, looks, blocked);
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
        let child = Self::start(Looks::Witness, work)?;
        let list = format!("/proc/{0}/task/{0}/children", child.0);
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let list = rustix::fs::open(list, flags, rustix::fs::Mode::empty()).map_err(failed("list processes"))?;
        relay::aim_at_children(list.into_raw_fd());
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
            for pid in relay::pids(&std::fs::read(&own).unwrap_or_default()) {
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
        relay::end();
    }

    /// Waits for the end; when the child stops, so do we.
    pub fn wait(self) -> Result<Ended, SuperviseError> {
        loop {
            let mut status = 0;
            // SAFETY: waitpid(2) writes one integer that outlives the call.
            match check(unsafe { libc::waitpid(self.0, &raw mut status, libc::WUNTRACED | libc::WCONTINUED) }) {
                Err(Errno::INTR) => continue,
                Err(source) => return Err(SuperviseError { step: "wait for the child", source }),
                Ok(_) => {}
            }
            if libc::WIFSTOPPED(status) {
                relay::stopped(libc::WSTOPSIG(status));
            } else if libc::WIFCONTINUED(status) {
                relay::goes_on();
            } else {
                relay::end();
                return Ok(match libc::WIFSIGNALED(status) {
                    true => Ended::Signal(libc::WTERMSIG(status)),
                    false => Ended::Status(libc::WEXITSTATUS(status) as u8),
                });
            }
        }
    }
}
