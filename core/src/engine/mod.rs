//! Engines: a family of modes each, from a [`crate::run::RunSpec`] to an [`ExecPlan`], which is plain data until
//! [`crate::start::start`].

use std::ffi::OsString;
use std::path::PathBuf;

use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::run::ExecMode;
use crate::sys::exec::Command;

mod choice;
pub mod native;
pub mod path;
mod plan;
mod program;
pub mod proot;
pub mod ptrace;
mod shape;

pub use choice::{Choice, ModeError, ModeNotBuilt, choose};
pub use plan::plan;
pub use program::ProgramError;
pub use proot::ProotPlan;
pub use shape::Shape;

/// Everything that one exec does, as data: printed by `--dry-run` and `--explain`, compared by tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExecPlan {
    /// The mode that will run.
    pub mode: ExecMode,
    /// Who carries it out.
    pub engine: Engine,
    /// The root file system.
    pub root: RootPlan,
    /// Mounts in the order of their making; parents before children.
    pub mounts: Vec<MountPlan>,
    /// Small files made for this run and bound read-only over the image's (accounts).
    pub files: Vec<GeneratedFile>,
    /// Who the program is.
    pub identity: IdentityPlan,
    /// Namespaces beside user and mount.
    pub unshare: Vec<Unshare>,
    /// Working directory inside.
    pub cwd: Cwd,
    /// The program and its arguments; the program is looked up in the `PATH` of `env` inside if it has no `/`.
    #[serde(serialize_with = "crate::text::os_list::serialize")]
    pub argv: Vec<OsString>,
    /// If there are any, the first of these that can be executed runs in place of `argv[0]`, as a login shell.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "crate::text::os_list::serialize")]
    pub login_shells: Vec<OsString>,
    /// The whole environment, `NAME=VALUE` each.
    #[serde(serialize_with = "crate::text::os_list::serialize")]
    pub env: Vec<OsString>,
    /// Which file descriptors above 2 the program keeps.
    pub keep_fds: KeepFds,
}

/// What one more program in a container that runs is: the container decides the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinPlan {
    /// As in [`ExecPlan`].
    pub cwd: Cwd,
    /// As in [`ExecPlan`].
    pub argv: Vec<OsString>,
    /// As in [`ExecPlan`].
    pub env: Vec<OsString>,
    /// As in [`ExecPlan`].
    pub keep_fds: KeepFds,
}

/// Who carries out a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Namespaces: this process becomes the program.
    Native,
    /// Our own tracer: this process stays beside the program.
    Ptrace,
    /// A PRoot of the site: this process stays beside it.
    Proot(ProotPlan),
}

impl ExecPlan {
    /// Its exec.
    ///
    /// # Errors
    /// [`ProgramError::BadCommand`].
    pub(crate) fn command(&self) -> Result<Command, ProgramError> {
        let command = match self.login_shells.is_empty() {
            true => Command::new(&self.argv, &self.env),
            false => Command::login(&self.login_shells, &self.argv, &self.env),
        };
        command.ok_or(ProgramError::BadCommand)
    }
}

impl Engine {
    /// Whether this process becomes the program.
    pub fn is_in_place(&self) -> bool {
        *self == Self::Native
    }
}

/// The root file system of a plan. Paths are host paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RootPlan {
    /// The tree: a shared rootfs, or a container's private ROOT.
    #[serde(serialize_with = "crate::text::os::serialize")]
    pub tree: PathBuf,
    /// What is shown over the tree and not written: the upper directory of a layered container.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "above")]
    pub above: Option<PathBuf>,
    /// What happens to writes into it.
    pub write: RootWrite,
}

impl RootPlan {
    /// A tree with nothing over it.
    pub fn new(tree: impl Into<PathBuf>, write: RootWrite) -> Self {
        Self { tree: tree.into(), above: None, write }
    }

    /// The directories that it is made of, the uppermost first.
    pub fn layers(&self) -> impl Iterator<Item = &std::path::Path> {
        let upper = match &self.write {
            RootWrite::Layer { upper, .. } => Some(upper),
            _ => None,
        };
        upper.into_iter().chain(&self.above).chain([&self.tree]).map(PathBuf::as_path)
    }
}

fn above<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => crate::text::os::serialize(path, serializer),
        None => serializer.serialize_none(),
    }
}

/// What happens to writes into the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootWrite {
    /// The root is read-only; mount points that the image lacks are synthesised.
    ReadOnly,
    /// An overlay with its upper on a tmpfs of at most so many bytes; gone at the end.
    Tmpfs {
        /// Bytes.
        size: u64,
    },
    /// An overlay with this upper and work directory (a layered container).
    Layer {
        /// The upper directory.
        #[serde(serialize_with = "crate::text::os::serialize")]
        upper: PathBuf,
        /// The work directory, on the same file system.
        #[serde(serialize_with = "crate::text::os::serialize")]
        work: PathBuf,
    },
    /// The tree is private and written in place.
    InPlace,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MountPlan {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path inside the container; symbolic links in it are resolved inside the root.
    #[serde(serialize_with = "crate::text::os::serialize")]
    pub target: PathBuf,
    /// Whether it and all below it is read-only.
    pub read_only: bool,
    /// Whether a missing source, or a target that cannot be made, is passed over.
    pub optional: bool,
    /// Who asked for it, for `--explain`: `default`, `--volume`, `site.toml:12` …
    pub origin: String,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A recursive bind of a host path: a directory or any other file.
    Bind {
        /// Absolute host path.
        #[serde(serialize_with = "crate::text::os::serialize")]
        path: PathBuf,
        /// Make the directory if it is missing (as the user).
        create: bool,
    },
    /// A fresh tmpfs, mode 1777.
    Tmpfs {
        /// Bytes; `None`: the kernel's default.
        size: Option<u64>,
    },
}

/// A small generated file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GeneratedFile {
    /// Absolute path inside.
    #[serde(serialize_with = "crate::text::os::serialize")]
    pub target: PathBuf,
    /// Its bytes.
    #[serde(serialize_with = "crate::text::os::serialize")]
    pub content: OsString,
}

/// Who the program is, and how that comes about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityPlan {
    /// User ID inside.
    pub uid: u32,
    /// Group ID inside.
    pub gid: u32,
    /// The ID maps.
    pub map: IdMap,
    /// Answer changes of ownership and identity with success instead of an error (fake root by filter).
    pub fake_root_filter: bool,
    /// Keep Docker's default capabilities inside the namespace (only with [`IdMap::Subordinate`]); else none.
    pub docker_capabilities: bool,
}

/// How IDs inside map to IDs outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdMap {
    /// One user and one group: `uid`/`gid` inside are the caller's outside. Written by ourselves.
    Single,
    /// The caller is 0 inside, the subordinate ranges follow from 1; written by newuidmap and newgidmap.
    Subordinate {
        /// First host uid and count.
        uids: (u32, u32),
        /// First host gid and count.
        gids: (u32, u32),
    },
}

/// A namespace made on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Unshare {
    Pid,
    Net,
    Ipc,
    Uts,
}

impl Unshare {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Pid, Self::Net, Self::Ipc, Self::Uts];

    /// Its name in options and below /proc/PID/ns.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
        }
    }

    pub(crate) fn flag(self) -> UnshareFlags {
        match self {
            Self::Pid => UnshareFlags::NEWPID,
            Self::Net => UnshareFlags::NEWNET,
            Self::Ipc => UnshareFlags::NEWIPC,
            Self::Uts => UnshareFlags::NEWUTS,
        }
    }
}

/// The working directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cwd {
    /// Tried in order; absolute paths inside.
    #[serde(serialize_with = "crate::text::os::serialize")]
    pub path: PathBuf,
    /// Tried when `path` is not there; `None`: that is an error (the user named `path`).
    pub fallback: Option<PathBuf>,
}

/// Which file descriptors above 2 the program keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepFds {
    /// All that were open when we began (`udocker run`, as udocker).
    All,
    /// These and no others (batch).
    Only(Vec<i32>),
}
