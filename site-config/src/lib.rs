//! Finds, checks and merges what the site and the user configured, and produces [`Settings`].
//!
//! ```text
//! defaults < /etc/udocker/site.toml < /etc/udocker/conf.d/*.toml (by name) < UDOCKER_* < command line
//! ```
//! Later values win, key by key; stores and insecure registries add up. A key that is known but not built is refused by
//! name, an unknown one with a suggestion: nothing is ignored silently.
#![warn(missing_docs)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use udocker_core::env_vars;
use udocker_core::reference::RegistryHost;
use udocker_core::settings::{Limits, RegistrySettings, Settings, StoreKind, StoreSettings};

mod error;
mod file;
mod merge;
mod schema;

pub use error::{ConfigError, Position};

/// Everything that [`load`] looks at.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The environment; only the variables of [`env_vars`] are read.
    pub env: Vec<(OsString, OsString)>,
    /// The user's home directory.
    pub home: PathBuf,
    /// The user's ID, for `{uid}` and the run directories.
    pub uid: u32,
    /// The user's login name, for `{user}`.
    pub user: String,
    /// `--repo`, absolute.
    pub repo: Option<PathBuf>,
    /// `--insecure`.
    pub insecure: bool,
    /// The site's directory: [`SITE_DIR`], another in tests.
    pub site_dir: PathBuf,
    /// Who must own the site's files: 0, another in tests.
    pub site_owner: u32,
}

/// Where the site's files lie.
pub const SITE_DIR: &str = "/etc/udocker";

/// What was found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The result.
    pub settings: Settings,
    /// The site's name, if it has one.
    pub site_name: Option<String>,
    /// Who set each key: `default`, `FILE:LINE:COLUMN`, a variable or an option. Keys are written `table.key`, and
    /// `store.NAME` for a store.
    pub origins: BTreeMap<String, String>,
}

/// Reads the configuration.
///
/// # Errors
/// [`ConfigError`] if a file of the site cannot be trusted, read or understood, or a variable has no usable value. A
/// site without files is none.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut loaded = defaults(sources);
    for (path, text) in file::read_site(&sources.site_dir, sources.site_owner)? {
        let config = schema::parse(&path, &text)?;
        merge::merge(&mut loaded, config, &path, &text, sources)?;
    }
    apply_environment(&mut loaded, sources)?;
    apply_options(&mut loaded, sources);
    adopt_named_store(&mut loaded);
    loaded.settings.stores[1..].sort_by_key(|store| match store.kind {
        StoreKind::User => 0,
        StoreKind::Project => 1,
        StoreKind::Site => 2,
        StoreKind::Cache => 3,
    });
    check_parts(&loaded, sources)?;
    Ok(loaded)
}

/// Name of the user's own store; it comes first.
const USER_STORE: &str = "user";

fn defaults(sources: &Sources) -> Loaded {
    let uid = sources.uid;
    let own = sources.home.join(".udocker");
    let registries = RegistrySettings { keystore: Some(own.join("keystore")), ..RegistrySettings::default() };
    let store = StoreSettings {
        name: USER_STORE.into(),
        path: own,
        kind: StoreKind::User,
        readonly: false,
        keep_layers: true,
        sync: true,
    };
    let settings = Settings {
        stores: vec![store],
        run_dirs: vec![
            format!("/run/udocker/{uid}").into(),
            format!("/dev/shm/udocker-{uid}").into(),
            format!("/tmp/udocker-{uid}").into(),
        ],
        registries,
        limits: Limits::default(),
        contact: None,
    };
    let keys = [
        "limits.image_max",
        "limits.tmpfs_default",
        "paths.run_dir",
        "registries.ca_dir",
        "registries.default",
        "registries.insecure",
        "registries.keystore",
        "registries.parallel",
        "registries.retries",
        "site.contact",
        "site.name",
        "store.user",
    ];
    let origins = keys.into_iter().map(|key| (key.to_owned(), "default".to_owned())).collect();
    Loaded { settings, site_name: None, origins }
}

impl Loaded {
    fn note(&mut self, key: &str, origin: impl Into<String>) {
        self.origins.insert(key.into(), origin.into());
    }
    fn user_store(&mut self) -> &mut StoreSettings {
        &mut self.settings.stores[0]
    }
}

fn variable<'a>(sources: &'a Sources, name: &str) -> Option<&'a OsStr> {
    let found = sources.env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str());
    found.filter(|value| !value.is_empty())
}

fn apply_environment(loaded: &mut Loaded, sources: &Sources) -> Result<(), ConfigError> {
    let path = |name: &'static str| match variable(sources, name).map(Path::new) {
        Some(path) if !path.is_absolute() => Err(ConfigError::variable(name, path, "an absolute path")),
        found => Ok(found.map(Path::to_path_buf)),
    };
    if let Some(path) = path(env_vars::UDOCKER_DIR)? {
        loaded.user_store().path = path;
        loaded.note("store.user", env_vars::UDOCKER_DIR);
    }
    if let Some(path) = path(env_vars::UDOCKER_KEYSTORE)? {
        loaded.settings.registries.keystore = Some(path);
        loaded.note("registries.keystore", env_vars::UDOCKER_KEYSTORE);
    }
    let docker = path(env_vars::DOCKER_CONFIG)?.unwrap_or_else(|| sources.home.join(".docker"));
    let runtime = path(env_vars::XDG_RUNTIME_DIR)?.map(|directory| directory.join("containers/auth.json"));
    loaded.settings.registries.docker_configs =
        path(env_vars::REGISTRY_AUTH_FILE)?.into_iter().chain([docker.join("config.json")]).chain(runtime).collect();
    if let Some(value) = variable(sources, env_vars::UDOCKER_REGISTRY) {
        let host = value.to_str().and_then(|text| host_of_url(text).parse::<RegistryHost>().ok());
        let wrong = || ConfigError::variable(env_vars::UDOCKER_REGISTRY, value, "a registry as host[:port]");
        loaded.settings.registries.default = host.ok_or_else(wrong)?;
        loaded.settings.registries.default_url = value.to_str().map(ToOwned::to_owned);
        loaded.note("registries.default", env_vars::UDOCKER_REGISTRY);
    }
    Ok(())
}

/// udocker takes a URL where we take a host.
fn host_of_url(text: &str) -> &str {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.map_or(text, |rest| rest.trim_end_matches('/'))
}

fn apply_options(loaded: &mut Loaded, sources: &Sources) {
    if let Some(repo) = &sources.repo {
        loaded.user_store().path.clone_from(repo);
        loaded.note("store.user", "--repo");
    }
    if sources.insecure {
        loaded.settings.registries.insecure_all = true;
        loaded.note("registries.insecure", "--insecure");
    }
}

/// A store that the site configured and the user named is that store, in its format, and comes first.
fn adopt_named_store(loaded: &mut Loaded) {
    let stores = &mut loaded.settings.stores;
    if let Some(same) = (1..stores.len()).find(|index| stores[*index].path == stores[0].path) {
        stores[0] = stores.remove(same);
    }
}

/// udocker can keep the parts of a store apart; we cannot, and say so instead of looking in the wrong place.
fn check_parts(loaded: &Loaded, sources: &Sources) -> Result<(), ConfigError> {
    let top = &loaded.settings.stores[0].path;
    for (name, part) in env_vars::UDOCKER_STORE_PARTS {
        if let Some(value) = variable(sources, name)
            && top.join(part) != Path::new(value)
        {
            let (value, expected) = (Path::new(value).into(), top.join(part));
            return Err(ConfigError::SplitStore { name, value, expected });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
