//! Why a program did not run under the tracer.

use std::io;
use std::path::PathBuf;

use crate::error::{ErrorKind, Explain};

/// Why a program did not run under the tracer.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The plan needs what this engine has not.
    #[error("cannot {0}: mode P2 makes no mounts")]
    Unsupported(&'static str),
    /// argv or environment are no C strings, or argv is empty.
    #[error("cannot pass on the command: it is empty, or it or the environment holds a NUL byte")]
    BadCommand,
    /// Tracing is forbidden.
    #[error("cannot trace the program")]
    Refused(#[source] io::Error),
    /// A step of ours failed.
    #[error("cannot {step}")]
    System {
        /// As in "cannot …".
        step: &'static str,
        /// What stopped it.
        source: io::Error,
    },
    /// A mount's source or target.
    #[error("cannot bind `{}` on `{}` (from {origin})", from.display(), target.display())]
    Mount {
        /// On the host.
        from: PathBuf,
        /// Inside.
        target: PathBuf,
        /// Who asked for it.
        origin: String,
        /// What stopped it.
        source: io::Error,
    },
    /// The working directory is not there.
    #[error("cannot change to the working directory `{}`", path.display())]
    WorkingDirectory {
        /// Inside.
        path: PathBuf,
        /// What stopped it.
        source: io::Error,
    },
    /// There is no such program.
    #[error("cannot run `{}`: it is not in the container", .0.display())]
    NotFound(PathBuf),
    /// Its loader or interpreter is missing.
    #[error("cannot run `{}`: its interpreter or loader is not in the container", .0.display())]
    NoInterpreter(PathBuf),
    /// It exists and cannot be executed.
    #[error("cannot run `{}`: it is not executable", program.display())]
    NotExecutable {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// exec(2) failed otherwise.
    #[error("cannot run `{}`", program.display())]
    Exec {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl TraceError {
    /// The exit status that Docker gives such a failure: 127 not found, 126 not executable, 125 the rest.
    pub fn status(&self) -> u8 {
        match self {
            Self::NotFound(_) | Self::NoInterpreter(_) => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }

    pub(super) fn system(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { step, source }
    }
}

impl Explain for TraceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported(_) | Self::Refused(_) => ErrorKind::Unsupported,
            Self::BadCommand => ErrorKind::Usage,
            Self::NotFound(_) | Self::NoInterpreter(_) => ErrorKind::NotFound,
            Self::NotExecutable { .. } => ErrorKind::Denied,
            Self::System { source, .. }
            | Self::Mount { source, .. }
            | Self::WorkingDirectory { source, .. }
            | Self::Exec { source, .. } => ErrorKind::from_io(source),
        }
    }

    fn hints(&self) -> Vec<String> {
        let texts: &[&str] = match self {
            Self::Refused(_) => &[
                "ptrace is forbidden here: by a tracer that traces us already (strace, another P mode), the sysctl \
                 kernel.yama.ptrace_scope (3 forbids it), or the seccomp profile of a container that we run in",
                "`udocker doctor` shows which modes work here",
            ],
            Self::WorkingDirectory { .. } => &["`--workdir` names another directory inside the container"],
            Self::NoInterpreter(_) => &["the program is built for another system or libc: run one of the image"],
            Self::NotFound(_) => &["names without `/` are looked up in the PATH inside the container"],
            Self::NotExecutable { source, .. } if source.raw_os_error() == Some(libc::ENOEXEC) => {
                &["the image may be of another architecture (32-bit programs too): `--platform` chooses"]
            }
            _ => &[],
        };
        texts.iter().map(|text| (*text).to_owned()).collect()
    }
}
