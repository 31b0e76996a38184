//! The last step of every front end: a plan is carried out, in this process or beside it.

use std::path::{Path, PathBuf};

use crate::engine::native::{self, EnterError, Step};
use crate::engine::proot::{self, ProotError};
use crate::engine::ptrace::{self, TraceError};
use crate::engine::{Engine, ExecPlan, JoinPlan, ProgramError};
use crate::error::{ErrorKind, Explain};
use crate::rendezvous::{Meeting, RendezvousError, Running};
use crate::store::{RunDirectory, StoreError, Temporary};
use crate::sys::supervised::Ended;

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The native engine.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// The tracer.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A PRoot of the site.
    #[error(transparent)]
    Proot(#[from] ProotError),
    /// Those who share a container could not meet.
    #[error(transparent)]
    Rendezvous(#[from] RendezvousError),
    /// A mode that keeps files beside its run, and no place for them.
    #[error("cannot make a directory for this run: none of {} is a directory of mode 0700 that is yours", named(.0))]
    NoRunDirectory(Vec<PathBuf>),
    /// That place cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn named(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// What a run failed at, for front ends with words of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The source of a mount, on the host.
    Source(&'a Path),
    /// The target of a mount, inside.
    Target(&'a Path),
    /// The working directory, inside.
    WorkingDirectory(&'a Path),
    /// The program.
    Program(&'a Path),
}

impl StartError {
    /// The exit status that Docker gives such a failure: 127 not found, 126 not executable, 125 the rest.
    pub fn status(&self) -> u8 {
        self.program().map_or(125, ProgramError::status)
    }

    fn program(&self) -> Option<&ProgramError> {
        match self {
            Self::Enter(EnterError::Program(error)) | Self::Trace(TraceError::Program(error)) => Some(error),
            Self::Proot(ProotError::Program(error)) => Some(error),
            _ => None,
        }
    }

    /// What it was about, if it was about one thing.
    pub fn subject(&self) -> Option<Subject<'_>> {
        if let Some(program) = self.program().and_then(ProgramError::unusable) {
            return Some(Subject::Program(program));
        }
        match self {
            Self::Enter(EnterError::System { step: Step::Source | Step::CreateSource, object, .. }) => {
                Some(Subject::Source(object))
            }
            Self::Enter(EnterError::System { step: Step::Target, object, .. }) => Some(Subject::Target(object)),
            Self::Enter(EnterError::System { step: Step::WorkingDirectory, object, .. }) => {
                Some(Subject::WorkingDirectory(object))
            }
            Self::Trace(TraceError::Source { path, .. }) | Self::Proot(ProotError::Source { path, .. }) => {
                Some(Subject::Source(path))
            }
            Self::Trace(TraceError::Target { path, .. }) => Some(Subject::Target(path)),
            Self::Trace(TraceError::WorkingDirectory { path, .. })
            | Self::Proot(ProotError::WorkingDirectory(path)) => Some(Subject::WorkingDirectory(path)),
            _ => None,
        }
    }
}

impl Explain for StartError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Enter(error) => error.kind(),
            Self::Trace(error) => error.kind(),
            Self::Proot(error) => error.kind(),
            Self::Rendezvous(error) => error.kind(),
            Self::NoRunDirectory(_) => ErrorKind::Denied,
            Self::Store(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Enter(error) => error.hints(),
            Self::Trace(error) => error.hints(),
            Self::Proot(error) => error.hints(),
            Self::Rendezvous(error) => error.hints(),
            Self::NoRunDirectory(_) => vec!["`ls -ld` shows whose they are; `[paths] run_dir` names another".into()],
            Self::Store(error) => error.hints(),
        }
    }
}

/// Carries out `plan`; natively in one container with those who meet at `meeting`. Where its engine works in place, this process becomes the program, and what returns is why not;
/// else it returns once the program has ended. Signals meanwhile are passed on to the program.
///
/// Single-threaded callers only.
///
/// # Errors
/// The program was never started. After an engine in place, this process is fit for nothing but to report it and exit.
pub fn start(plan: &ExecPlan, run_dirs: &[PathBuf], meeting: Option<&mut Meeting<'_>>) -> Result<Ended, StartError> {
    match &plan.engine {
        Engine::Native => Err(native::execute(plan, meeting.map(Meeting::meet).transpose()?).into()),
        Engine::Ptrace => Ok(ptrace::execute(plan, scratch(run_dirs)?.path())?),
        Engine::Proot(proot) => Ok(proot::execute(plan, proot, scratch(run_dirs)?.path())?),
    }
}

/// Becomes one more program of a container that runs; what returns is why not.
///
/// Single-threaded callers only.
pub fn join(running: &Running, plan: &JoinPlan) -> StartError {
    match running.lock() {
        Ok((list, process)) => {
            native::execute_in(list, process, (&running.head.identity, &running.head.unshare), plan).into()
        }
        Err(error) => error.into(),
    }
}

/// A folder for the files of one run, that goes when the value is dropped.
fn scratch(run_dirs: &[PathBuf]) -> Result<Temporary, StartError> {
    let run = RunDirectory::open(run_dirs).ok_or_else(|| StartError::NoRunDirectory(run_dirs.to_vec()))?;
    Ok(run.temporary("run")?)
}
