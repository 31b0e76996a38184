//! Why a program did not start, in any mode.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::error::{ErrorKind, Explain};
use crate::sys::exec::ExecFailure;

/// Why a program did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// argv or environment are no C strings, or argv is empty.
    #[error("cannot pass on the command: it is empty, or it or the environment holds a NUL byte")]
    BadCommand,
    /// There is no such program.
    #[error("cannot run `{}`: it is not in the container", .0.display())]
    NotFound(PathBuf),
    /// The program's loader or interpreter is missing.
    #[error("cannot run `{}`: its interpreter `{}` is not in the container", program.display(), interpreter.display())]
    NoInterpreter {
        /// The program.
        program: PathBuf,
        /// What it wants.
        interpreter: PathBuf,
    },
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

impl ProgramError {
    /// The failed exec of `argv`.
    pub(super) fn new(argv: &[OsString], failure: ExecFailure) -> Self {
        let program = argv.first().map(PathBuf::from).unwrap_or_default();
        match failure {
            ExecFailure::NotFound => Self::NotFound(program),
            ExecFailure::NoInterpreter(interpreter) => Self::NoInterpreter { program, interpreter },
            ExecFailure::NotExecutable(source) => Self::NotExecutable { program, source },
            ExecFailure::Other(source) => Self::Exec { program, source },
        }
    }

    /// The exit status that Docker gives such a failure: 127 not found, 126 not executable, 125 the rest.
    pub fn status(&self) -> u8 {
        match self {
            Self::NotFound(_) | Self::NoInterpreter { .. } => 127,
            Self::NotExecutable { .. } => 126,
            Self::BadCommand | Self::Exec { .. } => 125,
        }
    }

    /// The program, if that is what is missing or cannot be executed.
    pub(crate) fn unusable(&self) -> Option<&PathBuf> {
        match self {
            Self::NotFound(program) | Self::NoInterpreter { program, .. } | Self::NotExecutable { program, .. } => {
                Some(program)
            }
            Self::BadCommand | Self::Exec { .. } => None,
        }
    }
}

impl Explain for ProgramError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::BadCommand => ErrorKind::Usage,
            Self::NotFound(_) | Self::NoInterpreter { .. } => ErrorKind::NotFound,
            Self::NotExecutable { .. } => ErrorKind::Denied,
            Self::Exec { source, .. } => ErrorKind::from_io(source),
        }
    }

    fn hints(&self) -> Vec<String> {
        let text = match self {
            Self::NoInterpreter { .. } => {
                "the program is built for another system or libc, or a mount covers the image's own: run one of the image"
            }
            Self::NotExecutable { source, .. } if source.raw_os_error() == Some(libc::ENOEXEC) => {
                "the image may be of another architecture: `--platform` chooses"
            }
            Self::NotExecutable { .. } => {
                "it needs execute permission for the user inside (`--user`), on a file system mounted without noexec"
            }
            Self::NotFound(_) => "names without `/` are looked up in the PATH inside the container",
            Self::BadCommand | Self::Exec { .. } => return Vec::new(),
        };
        vec![text.into()]
    }
}
