//! Why a program did not run under the tracer.

use std::io;
use std::path::PathBuf;

use crate::engine::ProgramError;
use crate::error::{ErrorKind, Explain, TOO_MANY_FILES};

/// Why a program did not run under the tracer.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The plan needs what this engine has not.
    #[error("cannot {what} in this mode: it makes no mounts and no namespaces")]
    Unsupported {
        /// As in "cannot …".
        what: String,
    },
    /// The tracer knows the system calls and registers of one architecture.
    #[error("cannot trace programs on this machine: the P modes are built for x86-64 alone")]
    Architecture,
    /// Tracing is forbidden.
    #[error("cannot trace the program: {by}")]
    Refused {
        /// What forbids it, as far as can be seen.
        by: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// A step of ours failed.
    #[error("cannot {step}")]
    System {
        /// As in "cannot …".
        step: &'static str,
        /// What stopped it.
        source: io::Error,
    },
    /// What a mount shows cannot be used.
    #[error("cannot open the mount's source `{}` (from {origin})", path.display())]
    Source {
        /// On the host.
        path: PathBuf,
        /// Who asked for it.
        origin: String,
        /// What stopped it.
        source: io::Error,
    },
    /// A mount's place cannot be used.
    #[error("cannot mount on `{}` (from {origin})", path.display())]
    Target {
        /// Inside.
        path: PathBuf,
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
    /// Everything was ready for the program, and it did not start.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl TraceError {
    pub(super) fn system(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { step, source }
    }
}

impl Explain for TraceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } | Self::Architecture | Self::Refused { .. } => ErrorKind::Unsupported,
            Self::System { source, .. }
            | Self::Source { source, .. }
            | Self::Target { source, .. }
            | Self::WorkingDirectory { source, .. } => ErrorKind::from_io(source),
            Self::Program(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let texts: &[&str] = match self {
            Self::Refused { .. } => &["`udocker doctor` shows which modes work here"],
            Self::Unsupported { .. } => &["leave the option away, or use the native mode (`--mode=N1`)"],
            Self::Source { .. } => {
                &["the source of a volume must exist on this host; `optional` passes it over, `create` makes it"]
            }
            Self::WorkingDirectory { .. } => &["`--workdir` names another directory inside the container"],
            Self::Program(error) => return error.hints(),
            Self::System { source, .. } if source.raw_os_error() == Some(libc::EMFILE) => &[TOO_MANY_FILES],
            _ => &[],
        };
        texts.iter().map(|text| (*text).to_owned()).collect()
    }
}
