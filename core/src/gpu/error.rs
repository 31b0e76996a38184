//! Why GPUs or devices cannot be shown.

use std::path::PathBuf;

use super::CdiName;
use crate::error::{ErrorKind, Explain};
use crate::policy::Denied;

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
    /// A name that no specification has.
    #[error("cannot show {name}: no CDI specification has this device")]
    NoDevice {
        /// As asked for.
        name: CdiName,
        /// Those that there are.
        there: Vec<String>,
        /// Files that were not read, and why.
        unread: Vec<(PathBuf, String)>,
    },
    /// A name that two have.
    #[error("cannot show {name}: both {} and {} have this device", paths[0].display(), paths[1].display())]
    TwoSpecs {
        /// As asked for.
        name: CdiName,
        /// Both, in one directory.
        paths: [PathBuf; 2],
    },
    /// What a specification asks for cannot be.
    #[error("cannot show the devices of {}: {why}", path.display())]
    Edit {
        /// The specification.
        path: PathBuf,
        /// What it asks for.
        why: String,
    },
    /// The site forbids it.
    #[error(transparent)]
    Site(#[from] Denied),
    /// What covers a device has no place.
    #[error("cannot cover the GPUs that were not granted: none of {} is a directory of mode 0700 that is yours", named(.0))]
    NoCover(Vec<PathBuf>),
}

impl Explain for GpuError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoneGranted { .. } | Self::NotGranted { .. } | Self::Unknown { .. } => ErrorKind::Usage,
            Self::NoDevice { .. } => ErrorKind::Usage,
            Self::TwoSpecs { .. } | Self::Edit { .. } => ErrorKind::Unsupported,
            Self::Site(denied) => denied.kind(),
            Self::NoCover(_) => ErrorKind::System,
        }
    }
    fn hints(&self) -> Vec<String> {
        vec![match self {
            Self::NoDevice { there, unread, .. } => return hints_of_cdi(there, unread),
            Self::TwoSpecs { .. } => "the site removes one of them".into(),
            Self::Site(denied) => return denied.hints(),
            Self::Edit { .. } => "ask who runs this machine".into(),
            Self::NoneGranted { .. } => {
                "ask the scheduler for GPUs, as `--gres=gpu:1`; `--gpu=auto` does without".into()
            }
            Self::NotGranted { granted, .. } if granted.is_empty() => {
                "ask the scheduler for GPUs, as `--gres=gpu:1`".into()
            }
            Self::NotGranted { granted, .. } => format!("granted: {}; `--gpu=auto` shows them", list(granted)),
            Self::Unknown { there, .. } if there.is_empty() => "this machine has no GPU".into(),
            Self::Unknown { there, .. } => format!("there are: {}", list(there)),
            Self::NoCover(_) => "`ls -ld` shows whose they are; `[paths] run_dir` names another".into(),
        }]
    }
}

fn hints_of_cdi(there: &[String], unread: &[(PathBuf, String)]) -> Vec<String> {
    let known = match there {
        [] => "there are none; `[gpu] cdi_dirs` of site.toml says where specifications lie".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    };
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension != "json");
    let json = unread.iter().any(|(path, _)| is_yaml(path)).then(|| {
        "`nvidia-ctk cdi generate --format=json --output=/etc/cdi/nvidia.json` writes what is read here".to_owned()
    });
    let unread = unread.iter().map(|(path, why)| format!("{} was not read: {why}", path.display()));
    std::iter::once(known).chain(unread).chain(json).collect()
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn named(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
