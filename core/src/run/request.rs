//! What was asked for: one typed object from every front end.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ExecMode, is_path};
use crate::digest::Digest;
use crate::engine::Unshare;
use crate::gpu::{DeviceWish, GpuWish};
use crate::platform::Platform;

/// A wish, before policy, image and host are looked at. Same wish, same bytes, from every front end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// Version of this format.
    pub version: u32,
    /// Image reference, container name or ID, as typed.
    pub image: String,
    /// The program and its arguments; empty: the image's.
    #[serde(with = "crate::text::os_list")]
    pub argv: Vec<OsString>,
    /// The program is the user's login shell, and `argv` its arguments.
    pub login: bool,
    /// A mode that the user named; `None`: automatic.
    pub mode: Option<ExecMode>,
    /// Mounts in the order given.
    pub mounts: Vec<MountSpec>,
    /// Targets of default mounts that are dropped.
    #[serde(with = "crate::text::os_list")]
    pub umounts: Vec<OsString>,
    /// Environment in the order given, later wins.
    pub env: Vec<EnvSpec>,
    /// Globs of names that are removed.
    pub unset_env: Vec<String>,
    /// Start from an empty host environment.
    pub clean_env: bool,
    /// The whole host environment reaches the program (`--hostenv`, and jobs).
    pub host_env: bool,
    /// Working directory inside.
    pub workdir: Option<PathBuf>,
    /// What runs before `argv`; of this and the four others that may be `None`, nothing was said then ([`super::RunDefaults`]).
    pub entrypoint: Option<Entrypoint>,
    /// The user's home is visible.
    pub home: Option<bool>,
    /// Who the program is.
    pub user: Option<UserSpec>,
    /// Where writes to the root go.
    pub write: Option<WriteSpec>,
    /// No default mounts (`--nosysdirs`).
    pub no_system_mounts: bool,
    /// The image's Env, Cmd, Entrypoint, WorkingDir and User are ignored (`--nometa`).
    pub no_image_config: bool,
    /// Accounts: generated, the host's (`--hostauth`) or the image's unchanged (`--containerauth`).
    pub accounts: Accounts,
    /// For which platform the image is taken.
    pub platform: Option<Platform>,
    /// When the registry is asked.
    pub pull: PullPolicy,
    /// Which processes share a container.
    pub share: Option<Share>,
    /// Namespaces of its own beside user and mount.
    pub unshare: Vec<Unshare>,
    /// Which GPUs are visible; `None`: nothing was said ([`crate::settings::GpuSettings::default`]).
    pub gpu: Option<GpuWish>,
    /// Further devices.
    pub devices: Vec<DeviceWish>,
    /// Where the batch script of a job itself runs.
    pub batch: Option<Batch>,
    /// Getting the image may take so many seconds; `None`: what is configured ([`crate::settings::Limits::wait`]).
    pub timeout: Option<u32>,
    /// 0: failures alone are told; 1: how long what took, besides; up to 3.
    pub verbose: u8,
    /// What the tag of `image` stood for when the job was submitted: nodes take the image of this digest, wherever the tag leads
    /// by then. Of the index, if there is one.
    pub pin: Option<Digest>,
    /// The scheduler's job that it is for, once that is known: no other takes it from the environment. It stays the last
    /// field: `spank-plugin/task-prolog.sh` looks there.
    pub job: Option<String>,
}

impl RunRequest {
    /// The version that this code writes.
    pub const VERSION: u32 = 1;

    /// A wish for `image` with nothing else said.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            version: Self::VERSION,
            image: image.into(),
            argv: Vec::new(),
            login: false,
            mode: None,
            mounts: Vec::new(),
            umounts: Vec::new(),
            env: Vec::new(),
            unset_env: Vec::new(),
            clean_env: false,
            host_env: false,
            workdir: None,
            entrypoint: None,
            home: None,
            user: None,
            write: None,
            no_system_mounts: false,
            no_image_config: false,
            accounts: Accounts::Generated,
            platform: None,
            pull: PullPolicy::Missing,
            share: None,
            unshare: Vec::new(),
            gpu: None,
            devices: Vec::new(),
            batch: None,
            timeout: None,
            verbose: 0,
            pin: None,
            job: None,
        }
    }

    /// A wish for `image` with nothing else said, from the front ends of jobs.
    pub fn of_job(image: impl Into<String>) -> Self {
        Self { host_env: true, ..Self::new(image) }
    }

    /// What of it says which image is made ready, for who does that before the job: nothing of what the user has in it
    /// beside. `None` for a path, which is where it is.
    pub fn for_staging(&self) -> Option<Self> {
        let (platform, pull, timeout) = (self.platform.clone(), self.pull, self.timeout);
        let (write, pin) = (self.write.clone(), self.pin.clone());
        (!is_path(&self.image)).then(|| Self {
            platform,
            pull,
            timeout,
            write,
            pin,
            ..Self::of_job(self.image.as_str())
        })
    }
}

/// `SRC:DST[:opt,opt]` or `tmpfs:DST[:size=N]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute host path, or `None` for a tmpfs.
    pub source: Option<PathBuf>,
    /// Absolute path inside.
    pub target: PathBuf,
    /// `ro`.
    pub read_only: bool,
    /// `optional`: a missing source is passed over.
    pub optional: bool,
    /// `create`: a missing source is made, as a directory.
    pub create: bool,
    /// `size=`, bytes, of a tmpfs.
    pub size: Option<u64>,
}

/// One wish about the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnvSpec {
    /// `NAME=VALUE`.
    Set {
        /// The name, without `=`.
        #[serde(with = "crate::text::os")]
        name: OsString,
        /// The value, which may hold `=`.
        #[serde(with = "crate::text::os")]
        value: OsString,
    },
    /// `NAME` or `GLOB*`: the host's values.
    Host(String),
}

/// What runs before the arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entrypoint {
    /// The image's.
    Image,
    /// Nothing.
    None,
    /// This program; the image's Cmd is dropped.
    Program(#[serde(with = "crate::text::os")] OsString),
}

/// Who the program is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserSpec {
    /// The calling user.
    Caller,
    /// uid 0 inside, no privilege outside.
    Root,
    /// What the image's configuration says, else root.
    Image,
    /// A name, `uid`, `uid:gid`, `name:group`.
    Named(String),
}

/// Where writes to the root go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteSpec {
    /// Nowhere: EROFS.
    None,
    /// A tmpfs, gone at the end.
    Tmpfs {
        /// Bytes; `None`: the configured default.
        size: Option<u64>,
    },
    /// A directory of the user, kept.
    Directory(PathBuf),
}

/// Which accounts the program finds in /etc/passwd and /etc/group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accounts {
    /// The image's, completed with the caller (and the named user).
    Generated,
    /// The host's.
    Host,
    /// The image's, unchanged.
    Container,
}

/// Which processes share a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// The ranks of a step on one node.
    Node,
    /// None: each rank has its own.
    Task,
}

/// Where the batch script of a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Batch {
    /// In the container.
    Container,
    /// On the host; its steps run in the container.
    Host,
}

/// When the registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// If no store has the image.
    Missing,
    /// Before every run.
    Always,
    /// Never: no network, guaranteed.
    Never,
}
