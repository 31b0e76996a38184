//! Finds, checks and merges what the site and the user configured, and produces [`Settings`].
//!
//! ```text
//! defaults < /etc/udocker/site.toml < /etc/udocker/conf.d/*.toml (by name)
//!          < ~/.config/udocker/config.toml (`[run]` alone)
//!          < /etc/udocker.conf < ~/.udocker/udocker.conf < TOPDIR/udocker.conf < --config FILE
//!          < UDOCKER_* < command line
//! ```
//! Later values win, key by key; stores, rules and lists of registries add up. In the site's files a key that is known but not
//! built is refused by name, an unknown one with a suggestion; in udocker.conf both are told and passed over, as files
//! that work with udocker must work here. Nothing is ignored silently.
#![warn(missing_docs)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use udocker_core::env_vars::SLURM_UDOCKER_CONFIG;
use udocker_core::run::Caller;
use udocker_core::settings::{RegistrySettings, Settings, StoreKind, StoreParts, StoreSettings, Verbosity};

mod access;
mod check;
mod cleanup;
mod conf;
mod env;
mod error;
mod explain;
mod file;
mod gpu;
mod keys;
mod merge;
mod mounts;
mod mpi;
mod overrides;
mod place;
mod policy;
mod profile;
mod read;
mod relay;
mod report;
mod run;
mod schema;
mod size;
mod stage;
mod time;

pub use check::{Checked, check};
pub use error::{ConfigError, Origin, Position};
pub use explain::{Explained, KeyError};
pub use profile::profile;
pub use report::{Effect, Row};

/// Everything that [`load`] looks at.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The environment; only the variables of [`udocker_core::env_vars`] are read.
    pub env: Vec<(OsString, OsString)>,
    /// The user's home directory.
    pub home: PathBuf,
    /// The working directory, for variables with a relative path.
    pub cwd: PathBuf,
    /// The user's ID, for `{uid}`, the run directories, and as the owner of the user's files.
    pub uid: u32,
    /// The user's login name, for `{user}`.
    pub user: String,
    /// `--repo`, absolute.
    pub repo: Option<PathBuf>,
    /// `--config`, absolute.
    pub config: Option<PathBuf>,
    /// `--insecure`.
    pub insecure: bool,
    /// `--quiet` or `--debug`.
    pub verbosity: Option<Verbosity>,
    /// Whether it is kept who set each variable of `[env]`, as `env.set.NAME`.
    pub in_detail: bool,
    /// The site's directory: [`SITE_DIR`], that of `site_file`, another in tests.
    pub site_dir: PathBuf,
    /// The site.toml that `config=` of plugstack.conf names; its directory is the site's, and it must be there.
    pub site_file: Option<PathBuf>,
    /// The machine's udocker.conf: [`SYSTEM_CONF`], another in tests.
    pub system_conf: PathBuf,
    /// Who must own the site's files: 0, another in tests.
    pub site_owner: u32,
}

impl Sources {
    /// What is looked at for `caller` if the command line says nothing.
    pub fn of_caller(caller: &Caller) -> Self {
        let named = caller.env.iter().rev().find(|(name, _)| name == SLURM_UDOCKER_CONFIG);
        let site_file = named.map(|(_, value)| PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty());
        let site_dir = site_file.as_deref().and_then(Path::parent).unwrap_or(Path::new(SITE_DIR)).to_owned();
        Self {
            env: caller.env.clone(),
            home: caller.home.clone(),
            cwd: caller.cwd.clone(),
            uid: caller.uid,
            user: caller.name.clone(),
            repo: None,
            config: None,
            insecure: false,
            verbosity: None,
            in_detail: false,
            site_dir,
            site_file,
            system_conf: SYSTEM_CONF.into(),
            site_owner: 0,
        }
    }
}

/// Where the site's files lie.
pub const SITE_DIR: &str = "/etc/udocker";
/// udocker's file for all users of a machine.
pub const SYSTEM_CONF: &str = "/etc/udocker.conf";

/// What was found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The result.
    pub settings: Settings,
    /// The site's name, if it has one.
    pub site_name: Option<String>,
    /// What should be told to the user: keys and files that are passed over.
    pub warnings: Vec<String>,
    /// Whether the user has a config.toml or udocker.conf.
    pub has_user_files: bool,
    /// `~/.udocker`, udocker's `homedir`: the user's udocker.conf and keystore lie there.
    own_directory: PathBuf,
    /// `stage.node_cache_size`, until a file names the cache.
    node_cache_size: Option<u64>,
    /// Values of udocker's keys from which nothing follows, as written.
    without_effect: BTreeMap<&'static str, String>,
    /// Who set each key, where somebody did. Keys are written `table.key`, `store.NAME`, or as in udocker.conf.
    origins: BTreeMap<String, Origin>,
    /// Overrides for other jobs than this.
    elsewhere: Vec<overrides::Elsewhere>,
}

/// Reads the configuration.
///
/// # Errors
/// [`ConfigError`] if a file cannot be trusted, read or understood, or a value cannot be used. Files that are not there
/// are none, but for `--config`.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    load_with(sources, &mut |_, _| false)
}

/// The same for one of many processes: `is_known` is given what the site says and where the user's three files would
/// lie, and tells whether another process has found none of them.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    sources: &Sources,
    is_known: &mut dyn FnMut(&Settings, [&Path; 3]) -> bool,
) -> Result<Loaded, ConfigError> {
    let mut loaded = defaults(sources);
    conf::apply_tmpdir(&mut loaded, sources);
    let mut problems = Vec::new();
    let files = file::read_site(&sources.site_dir, &[sources.site_owner], &mut problems);
    check_named(sources, &files, &mut problems)?;
    lay_files(&mut loaded, &files, sources, &mut problems);
    if let Some(first) = problems.into_iter().next() {
        return Err(first);
    }
    let settings = &mut loaded.settings;
    settings.policy.registry.clone_from(&settings.registries.default);
    settings.registries.access.contact.clone_from(&settings.contact);
    if let Some(mounts) = &mut settings.mounts {
        mounts.contact.clone_from(&settings.contact);
    }
    conf::apply_files(&mut loaded, sources, is_known)?;
    conf::apply_variables(&mut loaded, sources)?;
    loaded.settings.registries.docker_configs = docker_configs(sources);
    apply_options(&mut loaded, sources);
    // A relative keystore lies in ~/.udocker, wherever TOPDIR is.
    let keystore = &mut loaded.settings.registries.keystore;
    *keystore = keystore.take().map(|path| loaded.own_directory.join(path));
    adopt_named_store(&mut loaded);
    if matches!(loaded.origin("store.user"), Origin::Variable(_) | Origin::Option(_)) {
        // Who names a store for this command or job means that one.
        loaded.settings.stage.store = None;
    }
    loaded.settings.stores[1..].sort_by_key(|store| match store.kind {
        StoreKind::User => 0,
        StoreKind::Project => 1,
        StoreKind::Site => 2,
        StoreKind::Cache => 3,
    });
    Ok(loaded)
}

/// Whether the file that `config=` names can be the site's, and is among the `files` that were read. Only a site.toml can:
/// whoever sets the variable finds no other file of root's that allows more.
fn check_named(sources: &Sources, files: &[file::Text], problems: &mut Vec<ConfigError>) -> Result<(), ConfigError> {
    let Some(named) = &sources.site_file else { return Ok(()) };
    if !named.is_absolute() || !named.ends_with("site.toml") {
        let expected = "the absolute path of a file that is called site.toml, by `config=` in plugstack.conf";
        return Err(ConfigError::variable(SLURM_UDOCKER_CONFIG, named, expected));
    }
    // Root's too, and its author's words: a user could name it, also by a link of his own.
    let links = std::fs::canonicalize(named);
    let is_store = |directory: &Path| {
        let has = |name| directory.join(name).exists();
        has("udocker.store") || has("repos") && has("layers")
    };
    if [Some(named), links.as_ref().ok()].into_iter().flatten().any(|path| path.ancestors().skip(1).any(is_store)) {
        let expected = "a file of the site's, and not one of an image in a store";
        return Err(ConfigError::variable(SLURM_UDOCKER_CONFIG, named, expected));
    }
    if problems.is_empty() && files.iter().all(|(path, _)| path != named) {
        problems.push(ConfigError::Missing { path: named.clone() });
    }
    Ok(())
}

/// Lays the site's files over `loaded`, and over all of them what holds for this job.
fn lay_files(loaded: &mut Loaded, files: &[file::Text], sources: &Sources, problems: &mut Vec<ConfigError>) {
    let mut overrides = Vec::new();
    for (path, text) in files {
        let mut config = read::read(path, text, problems);
        let of_jobs = std::mem::take(&mut config.overrides);
        overrides.extend(of_jobs.into_iter().map(|value| (path.as_path(), text.as_str(), value)));
        merge::merge(loaded, config, (path, text), sources, problems);
    }
    for (path, text, value) in overrides {
        overrides::merge(loaded, value, (path, text), sources, problems);
    }
    stage::check_store(loaded, problems);
}

/// Name of the user's own store; it comes first.
const USER_STORE: &str = "user";

/// Where the run directory of user `uid` may lie, in order, if no configuration says anything (design, section 6).
pub fn default_run_dirs(uid: u32) -> Vec<PathBuf> {
    vec![
        format!("/run/udocker/{uid}").into(),
        format!("/dev/shm/udocker-{uid}").into(),
        format!("/tmp/udocker-{uid}").into(),
    ]
}

fn defaults(sources: &Sources) -> Loaded {
    let uid = sources.uid;
    let own = sources.home.join(".udocker");
    let registries = RegistrySettings { keystore: Some("keystore".into()), ..RegistrySettings::default() };
    let store = StoreSettings {
        name: USER_STORE.into(),
        path: own.clone(),
        parts: StoreParts::default(),
        kind: StoreKind::User,
        readonly: false,
        keep_layers: true,
        sync: true,
        access: Default::default(),
    };
    let settings = Settings { stores: vec![store], run_dirs: default_run_dirs(uid), registries, ..Settings::default() };
    Loaded {
        settings,
        site_name: None,
        warnings: Vec::new(),
        has_user_files: false,
        own_directory: own,
        node_cache_size: None,
        without_effect: BTreeMap::new(),
        origins: BTreeMap::new(),
        elsewhere: Vec::new(),
    }
}

impl Loaded {
    /// Who set `key`, if anybody did.
    pub fn set_by(&self, key: &str) -> Option<String> {
        self.origins.get(key).map(ToString::to_string)
    }
    /// Who set `key`, written as in the module's head.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }
    /// Whether a key of `table` is set otherwise for the jobs of some partition, queue or account.
    pub fn varies(&self, table: &str) -> bool {
        let is_of = |key: &String| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        self.elsewhere.iter().any(|other| other.keys.iter().any(is_of))
    }
    fn note(&mut self, key: &str, origin: Origin) {
        self.origins.insert(key.into(), origin);
    }
    fn user_store(&mut self) -> &mut StoreSettings {
        &mut self.settings.stores[0]
    }
}

/// The last value of `name` that is not empty.
fn variable<'a>(sources: &'a Sources, name: &str) -> Option<&'a OsStr> {
    let found = sources.env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str());
    found.filter(|value| !value.is_empty())
}

/// Where Docker and its kin keep credentials, in the order of asking. A relative path names nothing.
fn docker_configs(sources: &Sources) -> Vec<PathBuf> {
    let path = |name| variable(sources, name).map(PathBuf::from).filter(|path| path.is_absolute());
    let docker = path(udocker_core::env_vars::DOCKER_CONFIG).unwrap_or_else(|| sources.home.join(".docker"));
    let runtime = path(udocker_core::env_vars::XDG_RUNTIME_DIR).map(|directory| directory.join("containers/auth.json"));
    path(udocker_core::env_vars::REGISTRY_AUTH_FILE)
        .into_iter()
        .chain([docker.join("config.json")])
        .chain(runtime)
        .collect()
}

fn apply_options(loaded: &mut Loaded, sources: &Sources) {
    if let Some(repo) = &sources.repo {
        loaded.user_store().path.clone_from(repo);
        loaded.note("store.user", Origin::Option("--repo"));
    }
    if sources.insecure {
        loaded.settings.registries.insecure_all = true;
        loaded.note("http_insecure", Origin::Option("--insecure"));
    }
    if let Some(verbosity) = sources.verbosity {
        loaded.settings.verbosity = verbosity;
        loaded.note("verbose_level", Origin::Option(report::verbosity_option(verbosity)));
    }
}

/// A store that the site configured and the user named is that store, in its format, and comes first.
fn adopt_named_store(loaded: &mut Loaded) {
    let stores = &mut loaded.settings.stores;
    if let Some(same) = (1..stores.len()).find(|index| stores[*index].path == stores[0].path) {
        let parts = std::mem::take(&mut stores[0].parts);
        stores[0] = StoreSettings { parts, ..stores.remove(same) };
    }
}

#[cfg(test)]
mod tests;
