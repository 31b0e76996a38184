//! What the site and the user configured, as plain data. `site-config` produces it; this crate only uses it.

use std::path::PathBuf;
use std::time::Duration;

use crate::reference::{DEFAULT_REGISTRY, RegistryHost};

/// Everything that is configured and not asked for on a command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Stores in the order of lookup.
    pub stores: Vec<StoreSettings>,
    /// Candidates of the run directory, in order (design, section 6); the first usable one is taken.
    pub run_dirs: Vec<PathBuf>,
    /// Registries.
    pub registries: RegistrySettings,
    /// Limits.
    pub limits: Limits,
    /// Whom to ask, last line of an error.
    pub contact: Option<String>,
}

/// One store.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Its name in messages.
    pub name: String,
    /// TOPDIR.
    pub path: PathBuf,
    /// Whose it is.
    pub kind: StoreKind,
    /// Never written, whatever its permissions.
    pub readonly: bool,
    /// Whether blobs stay after flattening.
    pub keep_layers: bool,
    /// Whether an image is on the disk (syncfs(2)) before it is published; a power failure cannot leave a hollow one then.
    pub sync: bool,
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

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// For names without a host.
    pub default: RegistryHost,
    /// The URL that named [`default`](Self::default), as it was written: the key of its entry in udocker's keystore.
    pub default_url: Option<String>,
    /// URL of the search index.
    pub index: String,
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
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            default: DEFAULT_REGISTRY.parse().expect("a constant host parses"),
            default_url: None,
            index: "https://hub.docker.com".into(),
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
        Self { image_bytes: 512 << 30, image_entries: 50_000_000, tmpfs_bytes: None }
    }
}
