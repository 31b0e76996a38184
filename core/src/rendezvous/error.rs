//! Why ranks could not meet.

use crate::error::{ErrorKind, Explain};
use crate::members::MembersError;
use crate::store::StoreError;

/// A container could not be shared.
#[derive(Debug, thiserror::Error)]
pub enum RendezvousError {
    /// The list of its processes could not be used.
    #[error(transparent)]
    Members(MembersError),
    /// The image's tree could not be marked as used.
    #[error(transparent)]
    Tree(#[from] StoreError),
    /// Another process has held the list for all that time.
    #[error("cannot enter the container: another task of this node has been making it for {seconds} s")]
    Timeout {
        /// How long.
        seconds: u64,
    },
    /// It runs already, in another way.
    #[error("cannot run the container beside its process {pid}: they differ in {differs}")]
    Differs {
        /// A living process of it.
        pid: u32,
        /// In which parts, in words.
        differs: String,
    },
    /// It is written into by a process that has left it for namespaces of its own.
    #[error("cannot write beside process {0}: it cannot be joined, as it is in namespaces of its own")]
    OutOfReach(u32),
    /// Its processes are numbered elsewhere.
    #[error("cannot tell whether something writes there: it was last run in another pid namespace of this machine")]
    OtherPids,
    /// It ended a moment ago.
    #[error("cannot enter the container: it has ended, or none of its processes can be joined")]
    Ended,
    /// How it runs could not be noted or read.
    #[error("cannot {action} {}, which tells how the container runs", path.display())]
    Shape {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// What stopped it.
        source: std::io::Error,
    },
}

impl From<MembersError> for RendezvousError {
    fn from(error: MembersError) -> Self {
        match error {
            MembersError::Timeout { seconds, .. } => Self::Timeout { seconds },
            error => Self::Members(error),
        }
    }
}

impl Explain for RendezvousError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Members(error) => error.kind(),
            Self::Tree(error) => error.kind(),
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Ended => ErrorKind::NotFound,
            Self::Differs { .. } | Self::OutOfReach(_) | Self::OtherPids => ErrorKind::Conflict,
            Self::Shape { source, .. } => ErrorKind::from_io(source),
        }
    }
    fn hints(&self) -> Vec<String> {
        let text = match self {
            Self::Members(error) => return error.hints(),
            Self::Tree(error) => return error.hints(),
            Self::Timeout { .. } => "a mount whose server does not answer holds it up; `--share=task` waits for nobody",
            Self::Differs { .. } => {
                "`udocker inspect -p ID` gives it a root of its own once it is idle, which any number may run"
            }
            Self::OutOfReach(pid) => return vec![format!("wait for process {pid}, or end it: `kill {pid}`")],
            Self::OtherPids => "when nothing of it runs, `udocker-launch reap` lets it be run from here",
            Self::Ended => "`udocker-launch exec --job=JOB` enters what runs on this node",
            Self::Shape { .. } => "the run directory must be writable: `udocker doctor` names it",
        };
        vec![text.into()]
    }
}
