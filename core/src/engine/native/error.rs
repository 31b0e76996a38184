//! Why a container could not be entered, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::engine::{ProgramError, Unshare};
use crate::error::{ErrorKind, Explain, TOO_MANY_FILES};
use crate::members::MembersError;

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// What the engine was doing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Step { $($(#[$doc])* $name,)* }

        impl Step {
            const ALL: &[Self] = &[$(Self::$name),*];

            /// As in "cannot …".
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

steps! {
    /// Marking file descriptors.
    Descriptors => "sort out the file descriptors",
    /// prctl(PR_SET_DUMPABLE).
    Dumpable => "make the process joinable",
    /// A helper process.
    Fork => "start a helper process",
    /// unshare(2).
    Unshare => "make a user and a mount namespace",
    /// setns(2).
    Join => "join the container that other tasks of this node are in",
    /// This process's pid and start time.
    Member => "tell who this process is",
    /// The process that keeps a container within reach.
    Holder => "keep the container within reach of other tasks",
    /// The loopback device of a network namespace.
    Loopback => "bring up the loopback device",
    /// /proc/self/setgroups.
    Setgroups => "write /proc/self/setgroups",
    /// /proc/self/uid_map.
    UidMap => "write /proc/self/uid_map",
    /// /proc/self/gid_map.
    GidMap => "write /proc/self/gid_map",
    /// MS_SLAVE on everything.
    Propagation => "cut the mounts off from the host's",
    /// The rootfs.
    Tree => "open the root file system",
    /// A layered container's directories.
    Layer => "open the container's layer",
    /// A bind's source.
    Source => "open the mount's source",
    /// A bind's source that was to be made.
    CreateSource => "create the mount's source",
    /// The scratch tmpfs.
    Scratch => "mount a tmpfs over",
    /// Binding the root.
    BindRoot => "bind the root file system",
    /// Mounting the overlay.
    Overlay => "mount an overlay of the root file system",
    /// Making the root read-only.
    ReadOnlyRoot => "make the root read-only:",
    /// Generating a file.
    File => "generate the file",
    /// Resolving or making a target.
    Target => "make the mount point",
    /// Mounting.
    Mount => "mount on",
    /// Making a mount read-only.
    ReadOnlyMount => "make read-only the mount on",
    /// pivot_root(2).
    Pivot => "change the root to",
    /// chdir(2).
    WorkingDirectory => "change to the working directory",
    /// Changing to the user.
    User => "become the user",
    /// Dropping capabilities.
    Capabilities => "drop capabilities",
    /// prctl(PR_SET_NO_NEW_PRIVS).
    NoNewPrivileges => "set no_new_privs",
    /// Installing the filter.
    Filter => "install the fake-root filter",
    /// SIGPIPE.
    Signals => "restore signals",
    /// Probe: creating in an overlay.
    ProbeCreate => "create a file in an overlay on",
    /// Probe: renaming in an overlay.
    ProbeRename => "rename a file in an overlay on",
    /// Probe: removing what a lower layer has.
    ProbeWhiteout => "remove a lower file in an overlay on",
    /// Probe: replacing a directory of a lower layer.
    ProbeOpaque => "replace a lower directory in an overlay on",
    /// Probe: extended attributes.
    ProbeAttribute => "set a user attribute in an overlay on",
    /// Probe: removing what the probe made.
    ProbeCleanUp => "clean up the probe in",
}

impl Step {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Why a container could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// A namespace that this engine does not make.
    #[error("cannot make a {} namespace: mode N1 shares the host's", .0.name())]
    Unsupported(Unshare),
    /// A system call failed.
    #[error("cannot {}{}{}", step.as_str(), quoted(object), asked(origin))]
    System {
        /// What was being done.
        step: Step,
        /// To which thing; empty if there is none.
        object: PathBuf,
        /// Who asked for it; empty if it belongs to every run.
        origin: String,
        /// What stopped it.
        source: io::Error,
    },
    /// A directory on a file or a file on a directory.
    #[error("cannot mount {} `{}` on {} `{}`{}", kind_name(*source_is_directory), .from.display(),
        kind_name(!*source_is_directory), target.display(), asked(origin))]
    KindMismatch {
        /// The source on the host.
        from: PathBuf,
        /// Inside.
        target: PathBuf,
        /// What the source is.
        source_is_directory: bool,
        /// Who asked for it.
        origin: String,
    },
    /// newuidmap or newgidmap refused.
    #[error("cannot map subordinate IDs: {program} failed or is not installed")]
    IdHelper {
        /// Which; it has said why on stderr.
        program: &'static str,
    },
    /// The list of the container's processes.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// Everything was ready for the program, and it did not start.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

fn quoted(object: &Path) -> String {
    if object.as_os_str().is_empty() { String::new() } else { format!(" `{}`", object.display()) }
}

fn asked(origin: &str) -> String {
    if origin.is_empty() { String::new() } else { format!(" (from {origin})") }
}

fn kind_name(is_directory: bool) -> &'static str {
    if is_directory { "the directory" } else { "the file" }
}

impl EnterError {
    /// Step and errno, for probes.
    pub(super) fn step(&self) -> Option<(Step, i32)> {
        match self {
            Self::System { step, source, .. } => Some((*step, source.raw_os_error().unwrap_or(libc::EIO))),
            _ => None,
        }
    }
}

impl Explain for EnterError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::KindMismatch { .. } => ErrorKind::Usage,
            Self::System { step: Step::Unshare | Step::UidMap | Step::GidMap | Step::Overlay, .. } => {
                ErrorKind::Unsupported
            }
            Self::System { source, .. } => ErrorKind::from_io(source),
            Self::IdHelper { .. } => ErrorKind::Denied,
            Self::Members(error) => error.kind(),
            Self::Program(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let texts: Vec<&str> = match self {
            Self::System { step, source, .. } => return step_hints(*step, source.raw_os_error().unwrap_or(0)),
            Self::Unsupported(_) => vec!["leave the option away, or use another mode (`--execmode`)"],
            Self::IdHelper { .. } => vec![
                "the user needs a range in /etc/subuid and /etc/subgid, and newuidmap and newgidmap must be set-id",
            ],
            Self::Members(error) => return error.hints(),
            Self::Program(error) => return error.hints(),
            Self::KindMismatch { .. } => Vec::new(),
        };
        texts.into_iter().map(String::from).collect()
    }
}

const APPARMOR: &str =
    "AppArmor may restrict user namespaces: see the sysctl kernel.apparmor_restrict_unprivileged_userns";

/// What helps when `step` failed with `errno`.
pub(super) fn step_hints(step: Step, errno: i32) -> Vec<String> {
    let texts: &[&str] = match (step, Errno::from_raw_os_error(errno)) {
        (_, Errno::MFILE) => &[TOO_MANY_FILES],
        (Step::Unshare, Errno::PERM) => &[
            "user namespaces are switched off (sysctl kernel.unprivileged_userns_clone), forbidden by a container \
             that we run in (its seccomp profile), or we are in a chroot",
            "`udocker doctor` shows which modes work here",
        ],
        (Step::Unshare, Errno::NOSPC | Errno::USERS) => {
            &["the number of user namespaces is limited: see the sysctl user.max_user_namespaces (0 forbids them)"]
        }
        (Step::Unshare, Errno::INVAL) => &["the process has threads, or the kernel is built without user namespaces"],
        (Step::Setgroups | Step::UidMap | Step::GidMap | Step::Propagation, Errno::PERM | Errno::ACCESS) => &[APPARMOR],
        (Step::Overlay, Errno::INVAL | Errno::OPNOTSUPP) => &[
            "the kernel is older than 5.11, or the store's file system cannot be below an overlay: use `--write=none`",
        ],
        (Step::Overlay, Errno::NODEV) => &["the kernel has no overlayfs: use `--write=none`"],
        (Step::Overlay, Errno::PERM) => &["unprivileged overlays need Linux 5.11: use `--write=none`"],
        (Step::Source, Errno::NOENT | Errno::NOTDIR) => {
            &["the source of a volume must exist on this host; `optional` passes it over, `create` makes it"]
        }
        (Step::Target, Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
            &["the mount point lies in a read-only mount: make it there first, or mount elsewhere"]
        }
        (Step::WorkingDirectory, _) => &["`--workdir` names another directory inside the container"],
        (Step::Pivot, Errno::INVAL) => {
            &["the host runs from its initial RAM file system, which pivot_root cannot leave"]
        }
        _ => &[],
    };
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Puts a failed call into words.
pub(super) trait During<T> {
    /// `step` failed, on no particular thing.
    fn during(self, step: Step) -> Result<T, EnterError>;
    /// `step` failed on `object`.
    fn on(self, step: Step, object: &Path) -> Result<T, EnterError>;
    /// `step` failed on `object`, which `origin` asked for.
    fn by(self, step: Step, object: &Path, origin: &str) -> Result<T, EnterError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: Step) -> Result<T, EnterError> {
        self.by(step, Path::new(""), "")
    }
    fn on(self, step: Step, object: &Path) -> Result<T, EnterError> {
        self.by(step, object, "")
    }
    fn by(self, step: Step, object: &Path, origin: &str) -> Result<T, EnterError> {
        self.map_err(|source| EnterError::System {
            step,
            object: object.into(),
            origin: origin.into(),
            source: source.into(),
        })
    }
}
