//! What the site and the user configured, as plain data. `site-config` produces it; this crate only uses it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::env_vars;
use crate::policy::{ModeSettings, MountPolicy, Policy, RegistryAccess, SiteRules};
use crate::reference::{DEFAULT_REGISTRY, RegistryHost};
use crate::run::{ExecMode, RunDefaults, SiteEnv};

/// Everything that is configured and not asked for on a command line. The default has no store.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Stores in the order of lookup.
    pub stores: Vec<StoreSettings>,
    /// Candidates of the run directory, in order (design, section 6); the first usable one is taken.
    pub run_dirs: Vec<PathBuf>,
    /// Registries.
    pub registries: RegistrySettings,
    /// Which of them may be used, and what of them.
    pub policy: Policy,
    /// Which modes may be.
    pub modes: ModeSettings,
    /// What may be mounted, if the site says anything of it.
    pub mounts: Option<Box<MountPolicy>>,
    /// What a program's environment is, if the site says anything of it.
    pub env: Option<Box<SiteEnv>>,
    /// Whether what `udocker run IMAGE` makes is kept as a container where nobody says.
    pub keep: bool,
    /// What jobs get where nobody asks for something else.
    pub run: RunDefaults,
    /// Limits.
    pub limits: Limits,
    /// Where this node keeps copies of images.
    pub node_cache: Option<NodeCache>,
    /// When the images of jobs come, and where to.
    pub stage: StageSettings,
    /// Whom to ask, last line of an error.
    pub contact: Option<String>,
    /// How much is told.
    pub verbosity: Verbosity,
    /// What `udocker run` does where its user says nothing.
    pub interactive: InteractiveDefaults,
    /// Daemons of an mpirun on the host.
    pub mpi: MpiSettings,
    /// Which commands of the scheduler work inside.
    pub relay: RelaySettings,
    /// GPUs.
    pub gpu: GpuSettings,
    /// What the engines of the P, F, R and S modes are told.
    pub engines: EngineSettings,
}

/// What jobs see of a node's GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuSettings {
    /// Where nobody says.
    pub default: GpuDefault,
    /// Where CDI specifications lie; of two that name one device that in the later directory counts.
    pub cdi_dirs: Vec<PathBuf>,
    /// The root below which the driver is installed.
    pub driver_root: PathBuf,
}

/// Which GPUs a job sees that did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuDefault {
    /// Those that were granted.
    #[default]
    Auto,
    /// None.
    None,
    /// Those that were granted, and where the scheduler says nothing of GPUs all that open.
    All,
}

impl Default for GpuSettings {
    fn default() -> Self {
        let cdi_dirs = ["/etc/cdi", "/run/cdi"].map(PathBuf::from).into();
        Self { default: GpuDefault::Auto, cdi_dirs, driver_root: "/".into() }
    }
}

/// What an mpirun on the host may start in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MpiSettings {
    /// Names of the programs by which an mpirun starts ranks on other nodes; `None`: [`MPI_DAEMONS`].
    pub daemons: Option<Vec<String>>,
    /// Whether they are refused; else they run on the host.
    pub require: bool,
}

impl Default for MpiSettings {
    fn default() -> Self {
        Self { daemons: None, require: true }
    }
}

/// Those of Open MPI, PRRTE, MPICH, Intel MPI and MVAPICH.
pub const MPI_DAEMONS: &[&str] = &["orted", "prted", "hydra_pmi_proxy", "hydra_bstrap_proxy", "pmi_proxy", "mpispawn"];

/// Commands of the scheduler for a script inside: they run on its node, outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySettings {
    /// Whether there are any.
    pub enabled: bool,
    /// Their names, or absolute paths; `None`: [`RELAY_COMMANDS`].
    pub commands: Option<Vec<String>>,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self { enabled: true, commands: None }
    }
}

/// The commands of Slurm and PBS that a script inside may run.
pub const RELAY_COMMANDS: &[&str] = &[
    "srun", "sbatch", "salloc", "scancel", "squeue", "sinfo", "scontrol", "sacct", "sbcast", "sattach", "qsub",
    "qstat", "qdel", "qalter", "qhold", "qrls", "qsig", "qmsg", "qrerun", "qselect", "pbsnodes",
];

/// When the images of jobs come, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageSettings {
    /// When; what is not there yet when a task starts comes then all the same.
    pub when: StageWhen,
    /// The name of the store that they go into; `None`: the first that may be written.
    pub store: Option<String>,
}

/// When the image of a job is made ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StageWhen {
    /// When its first task starts.
    #[default]
    Start,
    /// When it is submitted.
    Submit,
    /// On each node before its first task there, by the batch system's prolog.
    Prolog,
}

impl StageWhen {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Start, Self::Submit, Self::Prolog];

    /// As it is written in site.toml and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Submit => "submit",
            Self::Prolog => "prolog",
        }
    }

    /// The inverse of [`name`](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|when| when.name() == name)
    }
}

/// Copies of images on a node's own disk, of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCache {
    /// Its directory.
    pub path: PathBuf,
    /// Bytes of all copies together; `None`: as many as the disk has.
    pub bytes: Option<u64>,
}

impl Settings {
    /// What the site's decisions look at.
    pub fn rules(&self) -> SiteRules<'_> {
        SiteRules {
            policy: &self.policy,
            access: &self.registries.access,
            modes: &self.modes,
            registry: &self.registries.default,
            contact: self.contact.as_deref(),
        }
    }
    /// The node's cache, if copies may be run: where the site has rules about stores, an image counts by where it lies.
    pub fn usable_node_cache(&self) -> Option<&NodeCache> {
        self.node_cache.as_ref().filter(|_| self.policy.rules.iter().all(|rule| rule.stores.is_none()))
    }
}

/// udocker's levels of messages, each with those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing but the exit status.
    Silent,
    /// 0: errors.
    Errors,
    /// 1: results.
    Messages,
    /// 2: warnings.
    Warnings,
    /// 3: remarks.
    #[default]
    Info,
    /// 4: details.
    Details,
    /// 5: everything.
    Debug,
}

impl Verbosity {
    /// udocker's number; what is below 0 is silent, what is above 5 is 5.
    pub fn from_level(level: i64) -> Self {
        match level {
            ..0 => Self::Silent,
            0 => Self::Errors,
            1 => Self::Messages,
            2 => Self::Warnings,
            3 => Self::Info,
            4 => Self::Details,
            5.. => Self::Debug,
        }
    }
    /// The inverse of [`from_level`](Self::from_level).
    pub fn level(self) -> i64 {
        self as i64 - 1
    }
}

/// One store.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Its name in messages.
    pub name: String,
    /// TOPDIR.
    pub path: PathBuf,
    /// Directories of it that lie elsewhere.
    pub parts: StoreParts,
    /// Whose it is.
    pub kind: StoreKind,
    /// Never written, whatever its permissions.
    pub readonly: bool,
    /// Whether blobs stay after flattening.
    pub keep_layers: bool,
    /// Whether an image is on the disk (syncfs(2)) before it is published; a power failure cannot leave a hollow one then.
    pub sync: bool,
    /// Whom it serves, and who may keep it.
    pub access: StoreAccess,
}

/// Whom a store serves, and who may keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreAccess {
    /// Users beside root and the caller whose store is run from as it is.
    pub trust: Vec<u32>,
    /// Whom it serves; `None`: everybody. Others do not see it; what they could read all the same is a matter of its modes.
    pub acl: Option<Acl>,
}

/// Users and groups, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// Users.
    pub users: Vec<u32>,
    /// Groups.
    pub groups: Vec<u32>,
}

/// Directories of a store that its user moved apart (udocker's `reposdir` and so on); `None`: below TOPDIR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreParts {
    /// `repos/`.
    pub repos: Option<PathBuf>,
    /// `layers/`.
    pub layers: Option<PathBuf>,
    /// `containers/`.
    pub containers: Option<PathBuf>,
    /// `bin/`.
    pub bin: Option<PathBuf>,
    /// `lib/`.
    pub lib: Option<PathBuf>,
    /// `doc/`.
    pub doc: Option<PathBuf>,
}

impl StoreKind {
    /// Whether a user's pulls may go into such a store; a site's is filled by `udocker site publish` alone.
    pub fn takes_pulls(self) -> bool {
        matches!(self, Self::User | Self::Project)
    }
}

impl StoreSettings {
    /// Where `repos` lies.
    pub fn repos(&self) -> PathBuf {
        self.part(&self.parts.repos, "repos")
    }
    /// Where `layers` lies.
    pub fn layers(&self) -> PathBuf {
        self.part(&self.parts.layers, "layers")
    }
    /// Where `containers` lies.
    pub fn containers(&self) -> PathBuf {
        self.part(&self.parts.containers, "containers")
    }
    /// Where `bin` lies: executables that `udocker install` or udocker's own left.
    pub fn bin(&self) -> PathBuf {
        self.part(&self.parts.bin, "bin")
    }
    /// Where `lib` lies: libraries of udocker's own.
    pub fn lib(&self) -> PathBuf {
        self.part(&self.parts.lib, "lib")
    }
    /// Where `doc` lies.
    pub fn doc(&self) -> PathBuf {
        self.part(&self.parts.doc, "doc")
    }
    /// Whether all directories are there that make a repository for udocker 1.3.
    pub fn is_repository(&self) -> bool {
        [self.repos(), self.layers(), self.containers(), self.bin(), self.lib()].iter().all(|path| path.is_dir())
    }
    fn part(&self, apart: &Option<PathBuf>, name: &str) -> PathBuf {
        apart.clone().unwrap_or_else(|| self.path.join(name))
    }
}

/// Whose a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// The user's own: private files.
    User,
    /// A group's.
    Project,
    /// The site's.
    Site,
    /// A node's cache.
    Cache,
}

/// The search index of Docker Hub.
pub const DEFAULT_INDEX: &str = "https://hub.docker.com";

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// For names without a host.
    pub default: RegistryHost,
    /// The URL that named [`default`](Self::default), as it was written: the key of its entry in udocker's keystore.
    pub default_url: Option<String>,
    /// URL of the search index.
    pub index: String,
    /// Which may be asked at all, by the site's word.
    pub access: RegistryAccess,
    /// Hosts that may be asked by plain http or with a certificate that does not verify; loopback always may.
    pub insecure: Vec<RegistryHost>,
    /// Every host may (`--insecure`).
    pub insecure_all: bool,
    /// A proxy URL; without it the usual variables, which the front end put here.
    pub proxy: Option<String>,
    /// A directory with additional CA certificates (PEM).
    pub ca_dir: Option<PathBuf>,
    /// udocker's keystore, a JSON file of mode 0600.
    pub keystore: Option<PathBuf>,
    /// Docker's `config.json` and files like it, which are asked after the keystore, in order; none of them need exist.
    pub docker_configs: Vec<PathBuf>,
    /// Requests at a time per image.
    pub parallel: usize,
    /// Repetitions of a failed GET.
    pub retries: u32,
    /// First pause between repetitions; doubles, with full jitter.
    pub backoff: Duration,
}

/// Limits that protect disks and nodes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest image that is extracted, bytes.
    pub image_bytes: u64,
    /// Most entries of an image.
    pub image_entries: u64,
    /// Size of the tmpfs that takes writes to a root, bytes; `None`: half of the memory that the job has.
    pub tmpfs_bytes: Option<u64>,
    /// Getting an image takes so long at most, waits for others that get it included.
    pub wait: Duration,
    /// What was retired from a central store so long ago may be deleted.
    pub retire_after: Duration,
}

/// What `udocker run` does where neither its user nor the image says anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InteractiveDefaults {
    /// Host paths that are mounted at the same place inside; missing ones are passed over (udocker's `sysdirs_list`).
    pub system_mounts: Vec<PathBuf>,
    /// `PATH` for uid 0 (`root_path`).
    pub root_path: String,
    /// `PATH` for everybody else (`user_path`).
    pub user_path: String,
    /// The program and its arguments (`cmd`).
    pub command: Vec<String>,
    /// Globs of the variables that are taken from the host (`valid_host_env`); PATH never is.
    pub host_env: Vec<String>,
    /// Globs of those that are not, even with `--hostenv` (`invalid_host_env`).
    pub drop_env: Vec<String>,
    /// Directories for direct rendering, with `--dri` (`dri_list`).
    pub dri: Vec<PathBuf>,
}

/// What is kept for the engines of the P, F, R and S modes, under udocker's meanings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// The mode of containers that have none of their own; `None`: automatic.
    pub default_mode: Option<ExecMode>,
    /// The same by architecture, as udocker names them, and `DEFAULT`.
    pub default_modes: BTreeMap<String, ExecMode>,
    /// Directory for temporary files of the engines.
    pub tmp_dir: PathBuf,
    /// Which PRoot.
    pub proot: Executable,
    /// Which patchelf.
    pub patchelf: Executable,
    /// Which runc or crun.
    pub runc: Executable,
    /// Which apptainer or singularity.
    pub singularity: Executable,
    /// PRoot without seccomp; `None`: by the mode.
    pub proot_no_seccomp: Option<bool>,
    /// PRoot's new way to use seccomp.
    pub proot_new_seccomp: bool,
    /// PRoot ends what the program leaves behind.
    pub proot_kill_on_exit: bool,
    /// PRoot makes symbolic links of hard links.
    pub proot_link2symlink: bool,
    /// The preloaded library; `None`: by the image's distribution.
    pub fakechroot_library: Option<PathBuf>,
    /// The image's C library, below its root; `None`: searched.
    pub fakechroot_libc: Option<PathBuf>,
    /// Whether links are followed by fakechroot; `None`: automatic.
    pub fakechroot_expand_symlinks: Option<bool>,
    /// Programs that fakechroot replaces, `PROGRAM=REPLACEMENT:…`.
    pub fakechroot_command_substitutes: String,
}

/// Which file an engine executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Executable {
    /// The one in the store's `bin` (udocker's word `UDOCKER`).
    Store,
    /// The first on the host's PATH (udocker's empty value).
    Host,
    /// This one.
    Path(PathBuf),
}

impl Default for InteractiveDefaults {
    fn default() -> Self {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
        Self {
            system_mounts: paths(&["/dev", "/proc", "/sys", "/etc/resolv.conf", "/etc/host.conf", "/lib/modules"]),
            root_path: env_vars::DEFAULT_PATH_ROOT.into(),
            user_path: env_vars::DEFAULT_PATH_USER.into(),
            command: texts(&["bash", "-i"]),
            host_env: texts(env_vars::INTERACTIVE_HOST),
            drop_env: texts(env_vars::INTERACTIVE_DROP),
            dri: paths(&["/usr/lib64/dri", "/lib64/dri", "/usr/lib/dri", "/lib/dri"]),
        }
    }
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            default_mode: None,
            default_modes: BTreeMap::new(),
            tmp_dir: "/tmp".into(),
            proot: Executable::Store,
            patchelf: Executable::Store,
            runc: Executable::Host,
            singularity: Executable::Host,
            proot_no_seccomp: None,
            proot_new_seccomp: false,
            proot_kill_on_exit: true,
            proot_link2symlink: false,
            fakechroot_library: None,
            fakechroot_libc: None,
            fakechroot_expand_symlinks: None,
            fakechroot_command_substitutes: "/sbin/ldconfig=#RETURN(TRUE)#:/usr/sbin/ldconfig=#RETURN(TRUE)#".into(),
        }
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            default: DEFAULT_REGISTRY.parse().expect("a constant host parses"),
            default_url: None,
            index: DEFAULT_INDEX.into(),
            access: RegistryAccess::default(),
            insecure: Vec::new(),
            insecure_all: false,
            proxy: None,
            ca_dir: None,
            keystore: None,
            docker_configs: Vec::new(),
            parallel: 4,
            retries: 5,
            backoff: Duration::from_millis(250),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            image_bytes: 512 << 30,
            image_entries: 50_000_000,
            tmpfs_bytes: None,
            wait: Duration::from_secs(15 * 60),
            retire_after: Duration::from_secs(30 * 24 * 3600),
        }
    }
}
