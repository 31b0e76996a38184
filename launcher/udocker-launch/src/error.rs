//! Why a rank cannot be started, beside what the libraries say.

use std::path::PathBuf;

use udocker_core::engine::{ModeError, Unshare};
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::reference::ImageReference;
use udocker_core::run::{ExecMode, WriteSpec};

/// What to do without a run directory.
const WHOSE: &str = "`ls -ld` shows whose they are; `[paths] run_dir` names another";
/// What to do without a relay.
const NO_RELAY: &str = "`[relay] enabled = false` in the site's site.toml does without";

/// A rank cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("image {0} is in no store, and `--pull=never` forbids asking the registry")]
    NotHere(ImageReference),
    #[error("cannot get image {reference}: `udocker stage` ended with status {status}")]
    Failed { reference: ImageReference, status: i32 },
    #[error("cannot get image {reference}: it took longer than {seconds} s and was ended")]
    Late { reference: ImageReference, seconds: u64 },
    #[error("cannot wait for image {reference}: another task of this node has been getting it for {seconds} s")]
    Waited { reference: ImageReference, seconds: u64 },
    #[error("cannot run `udocker stage` for {reference}")]
    NotRun {
        reference: ImageReference,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "cannot write down which image {0} is for this job: none of its stores can be written, and the site's `policy.pin` is \"require\""
    )]
    NotPinned(ImageReference),
    #[error("image {0} was made ready and is in no store")]
    StillMissing(ImageReference),
    #[error("cannot run in the mode that {asked} asks for")]
    Mode {
        asked: String,
        #[source]
        source: ModeError,
    },
    #[error("cannot run with --write={write} in mode {mode}: it lays no writable layer over an image")]
    NeedsOverlay { mode: ExecMode, write: WriteSpec },
    #[error("cannot run container {id} in mode {mode}: it is a layer over its image, and the mode has no layers")]
    IsLayered { id: String, mode: ExecMode },
    #[error("cannot run a login shell on the host: `run.batch` is \"host\", which is for batch scripts of Slurm")]
    HostScript,
    #[error("cannot run {} on the host", program.display())]
    NotOnHost {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make {}, where writes should go", path.display())]
    WriteDirectory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make a {} namespace in mode {mode}: only mode N1 makes namespaces", namespace.name())]
    NeedsNamespaces { namespace: Unshare, mode: ExecMode },
    #[error(
        "cannot let the ranks of this node share a container: none of {} is a directory of mode 0700 that is yours",
        named(.0)
    )]
    NoRunDirectory(Vec<PathBuf>),
    #[error("cannot make the scheduler's commands work inside: none of {} is a directory of mode 0700 that is yours", named(.0))]
    NoRelayDirectory(Vec<PathBuf>),
    #[error("cannot give each task a container of its own that writes to --write={0}: only one may write there")]
    SharedDirectory(WriteSpec),
    #[error("cannot start a container within a container: this is {0} already")]
    IsInside(String),
    #[error("cannot keep descriptor {0} (from --fd): it is not open")]
    NotOpen(i32),
    #[error("cannot make a descriptor {0} (from --fd): {1}")]
    NumberTaken(i32, &'static str),
    #[error("cannot start {name} in {image}: it belongs to an mpirun on the host, and the image has an MPI of its own")]
    Daemon { name: String, image: String },
    #[error("cannot make the scheduler's commands work inside: {}", path.display())]
    Relay {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot sort out the file descriptors")]
    Descriptors(#[source] std::io::Error),
    #[error("cannot run {}: it is no directory with a root file system", path.display())]
    NoRoot {
        path: PathBuf,
        #[source]
        source: Option<std::io::Error>,
    },
    #[error("cannot run {}: it is this machine's own root", .0.display())]
    OwnRoot(PathBuf),
    #[error("cannot lay `--write={write}` over {}: its files are {whose}, and a layer is written over one's own only", path.display())]
    Foreign { path: PathBuf, whose: String, write: WriteSpec },
    #[error("{0} is no image of a store, and `--pull=always` and `--platform` choose images")]
    IsContainer(String),
}

impl Explain for LaunchError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Daemon { .. }
            | Self::IsContainer(_)
            | Self::SharedDirectory(_)
            | Self::NotOpen(_)
            | Self::NumberTaken(..) => ErrorKind::Usage,
            Self::Mode { source, .. } => source.kind(),
            Self::NeedsOverlay { .. }
            | Self::NeedsNamespaces { .. }
            | Self::IsLayered { .. }
            | Self::Foreign { .. } => ErrorKind::Unsupported,
            // 125: neither the image nor a policy stands in the way.
            Self::WriteDirectory { .. }
            | Self::NoRunDirectory(_)
            | Self::NoRelayDirectory(_)
            | Self::Relay { .. }
            | Self::HostScript
            | Self::NotOnHost { .. }
            | Self::Descriptors(_)
            | Self::IsInside(_) => ErrorKind::System,
            Self::NotPinned(_) => ErrorKind::Forbidden,
            Self::Late { .. } | Self::Waited { .. } => ErrorKind::Timeout,
            _ => ErrorKind::NotFound,
        }
    }
    fn is_retryable(&self) -> bool {
        // A signal ended it.
        matches!(self, Self::Failed { status, .. } if *status > 128)
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotHere(reference) => vec![format!("`udocker pull {reference}` on a login node gets it")],
            Self::NotPinned(reference) => vec![
                format!("`udocker resolve {reference}` prints its name with the digest, which needs no pin"),
            ],
            Self::Late { reference, .. } | Self::Waited { reference, .. } => vec![
                format!("`udocker pull {reference}` on a login node gets it before the job"),
                "`--timeout=1h` waits longer".into(),
            ],
            Self::Failed { .. } => vec!["the lines above are its own".into()],
            Self::NotRun { .. } => vec!["`udocker` must lie beside `udocker-launch` or on PATH".into()],
            Self::Mode { source, .. } => source.hints(),
            Self::NeedsOverlay { .. } => vec!["leave it away: the root is read-only then; or use mode N1".into()],
            Self::NeedsNamespaces { .. } => vec!["leave `--unshare` away, or use mode N1".into()],
            Self::NoRunDirectory(_) => vec![
                WHOSE.into(),
                "`--share=task` gives each rank its own, in which MPI ranks cannot read each other's memory".into(),
            ],
            Self::NoRelayDirectory(_) => vec![WHOSE.into(), NO_RELAY.into()],
            Self::SharedDirectory(_) => vec!["leave `--share=task` away: the tasks of a node write there together".into()],
            Self::IsLayered { id, .. } => {
                vec![format!("`udocker setup --execmode=P1 {id}` gives it a root of its own")]
            }
            Self::WriteDirectory { .. } => vec!["`--write=dir:PATH` names a directory that you may write".into()],
            Self::NoRoot { source: Some(source), .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                vec!["`namei -l PATH` shows who may enter it".into()]
            }
            Self::OwnRoot(_) => vec!["leave the image away: without a container a command runs there".into()],
            Self::NoRoot { .. } => vec![
                "`udocker load -i PATH` takes an archive or an OCI directory into the store, `udocker import PATH` a tar"
                    .into(),
            ],
            Self::Foreign { .. } => vec![
                "leave `--write` away; `udocker run` makes a private copy where it must".into(),
            ],
            Self::IsInside(_) => vec!["leave `udocker-launch` and its options away: the command runs inside as it is".into()],
            Self::NotOpen(_) => vec!["a shell opens one by `7<FILE`, `7>FILE` or `7<>FILE` behind the command".into()],
            Self::NumberTaken(..) => vec!["`--fd=N:M` with another M".into()],
            Self::Daemon { .. } => vec![
                "`srun` in place of mpirun starts the ranks in the image".into(),
                "`--udocker-batch=container` lets the script and its mpirun run in the image".into(),
            ],
            Self::Relay { .. } => vec![NO_RELAY.into()],
            Self::HostScript => vec!["`--batch=container`, as the variable UDOCKER_BATCH, asks for the container".into()],
            Self::Descriptors(_) | Self::NotOnHost { .. } => Vec::new(),
            Self::IsContainer(_) => vec!["leave them away, or name the image".into()],
            Self::StillMissing(_) => vec!["check UDOCKER_DIR: both programs must use the same store".into()],
        }
    }
}

fn named(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
