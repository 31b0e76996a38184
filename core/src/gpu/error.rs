//! Why GPUs or devices cannot be shown.

use std::path::PathBuf;

use crate::error::{ErrorKind, Explain};

/// A wish for GPUs or devices that cannot be fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// All were asked for, and there is none.
    #[error("cannot show all GPUs: this job has none ({why})")]
    NoneGranted {
        /// Who says so.
        why: String,
    },
    /// More was asked for than the scheduler gave.
    #[error("cannot show GPU {number}: it was not granted ({why})")]
    NotGranted {
        /// As in `/dev/nvidiaN`.
        number: u32,
        /// Those that were.
        granted: Vec<u32>,
        /// Who says so.
        why: String,
    },
    /// A number that no GPU has.
    #[error("cannot show GPU {number}: this machine has none of that number")]
    Unknown {
        /// As asked for.
        number: u32,
        /// Those that there are.
        there: Vec<u32>,
    },
    /// A name of CDI.
    #[error("cannot show {0}: CDI names are not supported by this version")]
    CdiNotBuilt(super::CdiName),
    /// What covers a device has no place.
    #[error("cannot cover the GPUs that were not granted: none of {} is a directory of mode 0700 that is yours", named(.0))]
    NoCover(Vec<PathBuf>),
}

impl Explain for GpuError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoneGranted { .. } | Self::NotGranted { .. } | Self::Unknown { .. } => ErrorKind::Usage,
            Self::CdiNotBuilt(_) => ErrorKind::Unsupported,
            Self::NoCover(_) => ErrorKind::System,
        }
    }
    fn hints(&self) -> Vec<String> {
        vec![match self {
            Self::NoneGranted { .. } => {
                "ask the scheduler for GPUs, as `--gres=gpu:1`; `--gpu=auto` does without".into()
            }
            Self::NotGranted { granted, .. } if granted.is_empty() => {
                "ask the scheduler for GPUs, as `--gres=gpu:1`".into()
            }
            Self::NotGranted { granted, .. } => format!("granted: {}; `--gpu=auto` shows them", list(granted)),
            Self::Unknown { there, .. } if there.is_empty() => "this machine has no GPU".into(),
            Self::Unknown { there, .. } => format!("there are: {}", list(there)),
            Self::CdiNotBuilt(_) => "numbers as in `/dev/nvidiaN` are".into(),
            Self::NoCover(_) => "`ls -ld` shows whose they are; `[paths] run_dir` names another".into(),
        }]
    }
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn named(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
