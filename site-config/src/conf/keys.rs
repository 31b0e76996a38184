//! Every key of udocker.conf: what it sets here, and how `udocker showconf` shows it.

use std::path::{Path, PathBuf};

use udocker_core::reference::{DEFAULT_REGISTRY, RegistryHost};
use udocker_core::settings::{Executable, Settings, Verbosity};

use super::given::{Given, MODES};
use super::value::Value;
use crate::{ConfigError, Loaded};

/// Lays a value over what is known so far.
type Set = fn(&mut Loaded, &Given<'_>) -> Result<(), ConfigError>;
/// The value in force.
type Show = fn(&Loaded) -> String;

/// What a key does.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// It is obeyed.
    Acts(Set, Show),
    /// It is read and kept for an engine that is not built yet.
    Kept(Set, Show),
    /// It is accepted, and this is why nothing follows from it.
    NoEffect(&'static str),
}

/// One key.
pub(crate) struct Key {
    /// As udocker names it.
    pub name: &'static str,
    /// Our name of the same setting, under which its origin is noted.
    pub noted_as: &'static str,
    /// See [`Role`].
    pub role: Role,
}

const fn acts(name: &'static str, set: Set, show: Show) -> Key {
    Key { name, noted_as: name, role: Role::Acts(set, show) }
}
const fn shared(name: &'static str, noted_as: &'static str, set: Set, show: Show) -> Key {
    Key { name, noted_as, role: Role::Acts(set, show) }
}
const fn kept(name: &'static str, set: Set, show: Show) -> Key {
    Key { name, noted_as: name, role: Role::Kept(set, show) }
}
const fn no_effect(name: &'static str, reason: &'static str) -> Key {
    Key { name, noted_as: name, role: Role::NoEffect(reason) }
}

const BUILT_IN: &str = "engines are built in, nothing is downloaded";
const ADAPTS: &str = "connections end after 10 s without an answer, transfers after 20 s without progress";
const DRIVERS: &str = "driver files are found on the host";
const LATER: &str = "the engine that needs it is not built yet";

/// All of them, in the order of udocker's own `showconf`.
pub(crate) const KEYS: &[Key] = &[
    acts(
        "verbose_level",
        |loaded, given| {
            loaded.settings.verbosity = Verbosity::from_level(given.number()?);
            Ok(())
        },
        |loaded| loaded.settings.verbosity.level().to_string(),
    ),
    acts(
        "homedir",
        |loaded, given| {
            loaded.own_directory = given.path()?.unwrap_or_else(|| given.sources.home.join(".udocker"));
            Ok(())
        },
        |loaded| path(&loaded.own_directory),
    ),
    shared(
        "topdir",
        "store.user",
        |loaded, given| {
            if let Some(path) = given.path()? {
                loaded.user_store().path = path;
            }
            Ok(())
        },
        |loaded| path(&loaded.settings.stores[0].path),
    ),
    acts("bindir", |l, given| set(&mut l.user_store().parts.bin, given.path()), |l| path(&l.settings.stores[0].bin())),
    acts("libdir", |l, given| set(&mut l.user_store().parts.lib, given.path()), |l| path(&l.settings.stores[0].lib())),
    acts("docdir", |l, given| set(&mut l.user_store().parts.doc, given.path()), |l| path(&l.settings.stores[0].doc())),
    acts(
        "reposdir",
        |l, given| set(&mut l.user_store().parts.repos, given.path()),
        |l| path(&l.settings.stores[0].repos()),
    ),
    acts(
        "layersdir",
        |l, given| set(&mut l.user_store().parts.layers, given.path()),
        |l| path(&l.settings.stores[0].layers()),
    ),
    acts(
        "containersdir",
        |l, given| set(&mut l.user_store().parts.containers, given.path()),
        |l| path(&l.settings.stores[0].containers()),
    ),
    no_effect("tarball_release", BUILT_IN),
    no_effect("tarball", BUILT_IN),
    no_effect("installinfo", BUILT_IN),
    no_effect("installretry", BUILT_IN),
    no_effect("autoinstall", BUILT_IN),
    no_effect("config", "the file is always named udocker.conf; `--config` names another"),
    shared(
        "keystore",
        "registries.keystore",
        |loaded, given| {
            let path = given.relative_path()?;
            loaded.settings.registries.keystore = Some(path.unwrap_or_else(|| "keystore".into()));
            Ok(())
        },
        |loaded| loaded.settings.registries.keystore.as_deref().map_or_else(|| "None".into(), path),
    ),
    kept(
        "tmpdir",
        |loaded, given| {
            if let Some(path) = given.path()? {
                loaded.settings.engines.tmp_dir = path;
            }
            Ok(())
        },
        |loaded| path(&loaded.settings.engines.tmp_dir),
    ),
    acts(
        "cmd",
        |loaded, given| {
            let words = given.texts()?;
            if words.is_empty() {
                return Err(given.wrong("a program and its arguments"));
            }
            loaded.settings.interactive.command = words;
            Ok(())
        },
        |loaded| list(&loaded.settings.interactive.command),
    ),
    acts(
        "root_path",
        |l, given| set(&mut l.settings.interactive.root_path, given.text().map(|text| text.unwrap_or("").into())),
        |l| l.settings.interactive.root_path.clone(),
    ),
    acts(
        "user_path",
        |l, given| set(&mut l.settings.interactive.user_path, given.text().map(|text| text.unwrap_or("").into())),
        |l| l.settings.interactive.user_path.clone(),
    ),
    acts(
        "sysdirs_list",
        |l, given| set(&mut l.settings.interactive.system_mounts, given.paths()),
        |l| paths(&l.settings.interactive.system_mounts),
    ),
    acts(
        "dri_list",
        |l, given| set(&mut l.settings.interactive.dri, given.paths()),
        |l| paths(&l.settings.interactive.dri),
    ),
    no_effect("mountpoint_prefixes", LATER),
    acts("override_default_execution_mode", set_mode, show_mode),
    // Documented by udocker under this name, which it does not read.
    shared("default_execution_mode", "override_default_execution_mode", set_mode, show_mode),
    kept("default_execution_modes", set_modes, |l| {
        table(l.settings.engines.default_modes.iter().map(|(name, mode)| (name.as_str(), quote(&mode.to_string()))))
    }),
    kept(
        "proot_noseccomp",
        |l, given| set(&mut l.settings.engines.proot_no_seccomp, given.switch()),
        |l| switch(l.settings.engines.proot_no_seccomp),
    ),
    // No key of udocker's, but its variable PROOT_NEW_SECCOMP.
    kept(
        "proot_newseccomp",
        |l, given| set(&mut l.settings.engines.proot_new_seccomp, given.switch().map(|on| on.unwrap_or(false))),
        |l| switch(Some(l.settings.engines.proot_new_seccomp)),
    ),
    kept(
        "proot_killonexit",
        |l, given| set(&mut l.settings.engines.proot_kill_on_exit, given.switch().map(|on| on.unwrap_or(false))),
        |l| switch(Some(l.settings.engines.proot_kill_on_exit)),
    ),
    kept(
        "proot_link2symlink",
        |l, given| set(&mut l.settings.engines.proot_link2symlink, given.switch().map(|on| on.unwrap_or(false))),
        |l| switch(Some(l.settings.engines.proot_link2symlink)),
    ),
    no_effect("ld_so_cache", LATER),
    kept(
        "fakechroot_so",
        |l, given| set(&mut l.settings.engines.fakechroot_library, given.relative_path()),
        |l| l.settings.engines.fakechroot_library.as_deref().map_or_else(|| "None".into(), path),
    ),
    kept(
        "fakechroot_expand_symlinks",
        |l, given| set(&mut l.settings.engines.fakechroot_expand_symlinks, given.switch()),
        |l| switch(l.settings.engines.fakechroot_expand_symlinks),
    ),
    kept(
        "fakechroot_cmd_subst",
        |l, given| {
            let text = given.text().map(|text| text.unwrap_or("").into());
            set(&mut l.settings.engines.fakechroot_command_substitutes, text)
        },
        |l| l.settings.engines.fakechroot_command_substitutes.clone(),
    ),
    no_effect("libc_search", LATER),
    kept(
        "fakechroot_libc",
        |l, given| set(&mut l.settings.engines.fakechroot_libc, given.relative_path()),
        |l| l.settings.engines.fakechroot_libc.as_deref().map_or_else(|| "None".into(), path),
    ),
    no_effect("lib_dirs_list_nvidia", DRIVERS),
    no_effect("lib_dirs_list_essential", LATER),
    no_effect("lib_dirs_list_append", LATER),
    no_effect("access_files", LATER),
    kept(
        "use_proot_executable",
        |l, given| set(&mut l.settings.engines.proot, given.executable()),
        |l| executable(&l.settings.engines.proot),
    ),
    kept(
        "use_patchelf_executable",
        |l, given| set(&mut l.settings.engines.patchelf, given.executable()),
        |l| executable(&l.settings.engines.patchelf),
    ),
    kept(
        "use_runc_executable",
        |l, given| set(&mut l.settings.engines.runc, given.executable()),
        |l| executable(&l.settings.engines.runc),
    ),
    kept(
        "use_singularity_executable",
        |l, given| set(&mut l.settings.engines.singularity, given.executable()),
        |l| executable(&l.settings.engines.singularity),
    ),
    no_effect("runc_nomqueue", LATER),
    no_effect("runc_capabilities", LATER),
    no_effect("singularity_options", LATER),
    acts(
        "valid_host_env",
        |l, given| set(&mut l.settings.interactive.host_env, given.texts()),
        |l| list(&l.settings.interactive.host_env),
    ),
    acts(
        "invalid_host_env",
        |l, given| set(&mut l.settings.interactive.drop_env, given.texts()),
        |l| list(&l.settings.interactive.drop_env),
    ),
    no_effect("cpu_affinity_exec_tools", "`--cpuset-cpus` needs no tool"),
    no_effect("location", "only the option `--location` names a directory to run, as with udocker"),
    acts(
        "http_proxy",
        |l, given| set(&mut l.settings.registries.proxy, given.text().map(|text| text.map(str::to_owned))),
        |l| l.settings.registries.proxy.clone().unwrap_or_default(),
    ),
    no_effect("timeout", ADAPTS),
    no_effect("download_timeout", ADAPTS),
    no_effect("ctimeout", ADAPTS),
    no_effect("http_agent", "registries are told the name and version of this program"),
    acts(
        "http_insecure",
        |l, given| set(&mut l.settings.registries.insecure_all, given.switch().map(|on| on.unwrap_or(false))),
        |l| switch(Some(l.settings.registries.insecure_all)),
    ),
    no_effect("use_curl_executable", "transfers are built in"),
    shared(
        "dockerio_index_url",
        "registries.index",
        |loaded, given| match given.text()? {
            Some(url) => set_index(loaded, url),
            None => Ok(()),
        },
        |loaded| loaded.settings.registries.index.clone(),
    ),
    shared(
        "dockerio_registry_url",
        "registries.default",
        |loaded, given| match given.text()? {
            Some(url) => set_registry(loaded, url, given),
            None => Ok(()),
        },
        |loaded| registry_url(&loaded.settings),
    ),
    acts("docker_registries", set_registries, |loaded| {
        let urls = [registry_url(&loaded.settings), loaded.settings.registries.index.clone()];
        table([(DEFAULT_REGISTRY, list(&urls))].into_iter())
    }),
    no_effect("nvi_etc_list", DRIVERS),
    no_effect("nvi_bin_list", DRIVERS),
    no_effect("nvi_lib_list", DRIVERS),
    no_effect("nvi_dev_list", DRIVERS),
];

/// The key of this name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn set<T>(place: &mut T, value: Result<T, ConfigError>) -> Result<(), ConfigError> {
    *place = value?;
    Ok(())
}

fn set_mode(loaded: &mut Loaded, given: &Given<'_>) -> Result<(), ConfigError> {
    set(&mut loaded.settings.engines.default_mode, given.mode())
}

fn show_mode(loaded: &Loaded) -> String {
    loaded.settings.engines.default_mode.map(|mode| mode.to_string()).unwrap_or_default()
}

fn set_modes(loaded: &mut Loaded, given: &Given<'_>) -> Result<(), ConfigError> {
    const EXPECTED: &str = "a table of modes, as {\"x86_64\": \"P1\", \"DEFAULT\": \"R1\"}";
    let Value::Table(entries) = &given.value else { return Err(given.wrong(EXPECTED)) };
    let mut modes = std::collections::BTreeMap::new();
    for (architecture, mode) in entries {
        let mode = mode.text().and_then(|text| text.parse().ok()).ok_or_else(|| given.wrong(MODES))?;
        modes.insert(architecture.clone(), mode);
    }
    loaded.settings.engines.default_modes = modes;
    Ok(())
}

fn set_index(loaded: &mut Loaded, url: &str) -> Result<(), ConfigError> {
    let scheme = if url.contains("://") { "" } else { "https://" };
    loaded.settings.registries.index = format!("{scheme}{}", url.trim_end_matches('/'));
    Ok(())
}

/// Names under which udocker asks Docker Hub.
const DOCKER_HUB: &[&str] = &["registry-1.docker.io", "registry.hub.docker.com", "index.docker.io"];
const REGISTRY_URL: &str = "a registry as host[:port], with https:// or http:// before it if need be";

/// The host of a registry's URL, and whether plain http was written.
fn registry(url: &str) -> Option<(RegistryHost, bool)> {
    let (plain, rest) = match url.strip_prefix("http://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("https://").unwrap_or(url)),
    };
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/v2").unwrap_or(rest);
    let host = if DOCKER_HUB.contains(&rest) { DEFAULT_REGISTRY } else { rest };
    Some((host.parse().ok()?, plain))
}

fn set_registry(loaded: &mut Loaded, url: &str, given: &Given<'_>) -> Result<(), ConfigError> {
    let (host, plain) = registry(url).ok_or_else(|| given.wrong(REGISTRY_URL))?;
    if plain {
        loaded.settings.registries.insecure.push(host.clone());
    }
    loaded.settings.registries.default = host;
    loaded.settings.registries.default_url = Some(url.to_owned());
    Ok(())
}

/// `{"HOST": ["REGISTRY", "INDEX"]}`: Docker Hub's are the defaults; another host must be asked at its own name.
fn set_registries(loaded: &mut Loaded, given: &Given<'_>) -> Result<(), ConfigError> {
    const EXPECTED: &str = "a table of registries, as {\"docker.io\": [\"https://registry\", \"https://index\"]}";
    let Value::Table(entries) = &given.value else { return Err(given.wrong(EXPECTED)) };
    for (name, urls) in entries {
        let urls = urls.texts().filter(|urls| matches!(urls.len(), 1 | 2)).ok_or_else(|| given.wrong(EXPECTED))?;
        let (host, plain) = registry(&urls[0]).ok_or_else(|| given.wrong(REGISTRY_URL))?;
        if name == DEFAULT_REGISTRY {
            set_registry(loaded, &urls[0], given)?;
            loaded.note("registries.default", given.place.origin());
            if let Some(index) = urls.get(1) {
                set_index(loaded, index)?;
                loaded.note("registries.index", given.place.origin());
            }
        } else if host.as_str() == name {
            if plain {
                loaded.settings.registries.insecure.push(host);
            }
        } else {
            loaded.warnings.push(format!(
                "{}: images of {name} are asked for there and not at {host}: this version has no mirrors",
                given.place.origin()
            ));
        }
    }
    Ok(())
}

fn registry_url(settings: &Settings) -> String {
    let registries = &settings.registries;
    let scheme = if registries.insecure.contains(&registries.default) { "http" } else { "https" };
    let host = registries.default.as_str();
    format!("{scheme}://{}", if host == DEFAULT_REGISTRY { DOCKER_HUB[0] } else { host })
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
fn paths(list: &[PathBuf]) -> String {
    self::list(&list.iter().map(|item| path(item)).collect::<Vec<_>>())
}
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quote(item)).collect::<Vec<_>>().join(", "))
}
fn table<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> String {
    let entries: Vec<_> = entries.map(|(name, value)| format!("{}: {value}", quote(name))).collect();
    format!("{{{}}}", entries.join(", "))
}
fn switch(on: Option<bool>) -> String {
    match on {
        Some(true) => "True".into(),
        Some(false) => "False".into(),
        None => "None".into(),
    }
}
fn executable(which: &Executable) -> String {
    match which {
        Executable::Store => "UDOCKER".into(),
        Executable::Host => String::new(),
        Executable::Path(file) => path(file),
    }
}
