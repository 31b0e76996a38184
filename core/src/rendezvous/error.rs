//! Why ranks could not meet.

use crate::error::{ErrorKind, Explain};
use crate::members::MembersError;

/// A container could not be shared.
#[derive(Debug, thiserror::Error)]
pub enum RendezvousError {
    /// The list of its processes could not be used.
    #[error(transparent)]
    Members(MembersError),
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
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Ended => ErrorKind::NotFound,
            Self::Differs { .. } => ErrorKind::Conflict,
            Self::Shape { source, .. } => ErrorKind::from_io(source),
        }
    }
    fn hints(&self) -> Vec<String> {
        let text = match self {
            Self::Members(error) => return error.hints(),
            Self::Timeout { .. } => "a mount whose server does not answer holds it up; `--share=task` waits for nobody",
            Self::Differs { .. } => {
                "`udocker inspect -p ID` gives it a root of its own once it is idle, which any number may run"
            }
            Self::Ended | Self::Shape { .. } => return Vec::new(),
        };
        vec![text.into()]
    }
}
