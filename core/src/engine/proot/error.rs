//! Why a program did not run under PRoot.

use std::io;
use std::path::PathBuf;

use crate::engine::ProgramError;
use crate::error::{ErrorKind, Explain};
use crate::sys::supervised::SuperviseError;

/// Why a program did not run under PRoot.
#[derive(Debug, thiserror::Error)]
pub enum ProotError {
    /// PRoot has not what the plan needs.
    #[error("cannot {what}: {} has no such thing", program.display())]
    Unsupported {
        /// PRoot.
        program: PathBuf,
        /// As in "cannot …".
        what: String,
    },
    /// There is no PRoot.
    #[error("cannot execute the PRoot {}", program.display())]
    Missing {
        /// Which.
        program: PathBuf,
        /// What stopped it.
        source: io::Error,
    },
    /// What it starts runs on the host, or not at all.
    #[error("cannot use the PRoot {}: a program that it started did not read the file of its root", .0.display())]
    Escapes(PathBuf),
    /// A path that its command line cannot say.
    #[error("cannot bind `{}`: PRoot takes no path with a colon", .0.display())]
    Colon(PathBuf),
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
    /// The working directory is not there.
    #[error("cannot change to the working directory `{}`: it is not in the container", .0.display())]
    WorkingDirectory(PathBuf),
    /// A step of ours failed.
    #[error("cannot {step}")]
    System {
        /// As in "cannot …".
        step: &'static str,
        /// What stopped it.
        source: io::Error,
    },
    /// Watching over it failed.
    #[error(transparent)]
    Supervise(#[from] SuperviseError),
    /// The program is not there.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl ProotError {
    pub(super) fn system(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { step, source }
    }
}

impl Explain for ProotError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } | Self::Missing { .. } | Self::Escapes(_) | Self::Colon(_) => {
                ErrorKind::Unsupported
            }
            Self::WorkingDirectory(_) => ErrorKind::NotFound,
            Self::Source { source, .. } | Self::System { source, .. } => ErrorKind::from_io(source),
            Self::Supervise(error) => error.kind(),
            Self::Program(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let ours = "without UDOCKER_USE_PROOT_EXECUTABLE these modes are carried out by our own tracer";
        let texts: &[&str] = match self {
            Self::Unsupported { .. } | Self::Colon(_) | Self::Missing { .. } => &[ours],
            Self::Escapes(_) => &["this build may be broken, or ptrace is forbidden here", ours],
            Self::Source { .. } => {
                &["the source of a volume must exist on this host; `optional` passes it over, `create` makes it"]
            }
            Self::WorkingDirectory(_) => &["`--workdir` names another directory inside the container"],
            Self::Program(error) => return error.hints(),
            Self::System { .. } | Self::Supervise(_) => &[],
        };
        texts.iter().map(|text| (*text).to_owned()).collect()
    }
}
