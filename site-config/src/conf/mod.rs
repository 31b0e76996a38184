//! udocker's own configuration: the files udocker.conf and the variables `UDOCKER_*`. Both set the same keys.

use std::path::{Path, PathBuf};

use udocker_core::env_vars as env;
use udocker_core::settings::Settings;

mod given;
mod ini;
mod keys;
mod value;

use given::{Given, Place};
pub(crate) use keys::{KEYS, Role};
use value::Value;

use crate::file::{Trust, read_conf};
use crate::{ConfigError, Loaded, Origin, Position, Sources, run, variable};

/// Variables and the keys that they set. `true`: an empty value is one.
const VARIABLES: &[(&str, &str, bool)] = &[
    (env::UDOCKER_LOGLEVEL, "verbose_level", false),
    // The later one wins.
    (env::SLURM_UDOCKER_DIR, "topdir", false),
    (env::UDOCKER_DIR, "topdir", false),
    (env::UDOCKER_BIN, "bindir", false),
    (env::UDOCKER_LIB, "libdir", false),
    (env::UDOCKER_DOC, "docdir", false),
    (env::UDOCKER_REPOS, "reposdir", false),
    (env::UDOCKER_LAYERS, "layersdir", false),
    (env::UDOCKER_CONTAINERS, "containersdir", false),
    (env::UDOCKER_TMP, "tmpdir", false),
    (env::UDOCKER_KEYSTORE, "keystore", false),
    (env::UDOCKER_TARBALL, "tarball", false),
    (env::UDOCKER_INDEX, "dockerio_index_url", false),
    (env::UDOCKER_REGISTRY, "dockerio_registry_url", false),
    (env::UDOCKER_DEFAULT_EXECUTION_MODE, "override_default_execution_mode", false),
    (env::UDOCKER_USE_CURL_EXECUTABLE, "use_curl_executable", true),
    (env::UDOCKER_USE_PROOT_EXECUTABLE, "use_proot_executable", true),
    (env::UDOCKER_USE_RUNC_EXECUTABLE, "use_runc_executable", true),
    (env::UDOCKER_USE_SINGULARITY_EXECUTABLE, "use_singularity_executable", true),
    (env::UDOCKER_USE_PATCHELF_EXECUTABLE, "use_patchelf_executable", true),
    (env::UDOCKER_FAKECHROOT_SO, "fakechroot_so", false),
    (env::UDOCKER_FAKECHROOT_LIBC, "fakechroot_libc", false),
    (env::UDOCKER_FAKECHROOT_EXPAND_SYMLINKS, "fakechroot_expand_symlinks", false),
    (env::UDOCKER_FAKECHROOT_CMD_SUBST, "fakechroot_cmd_subst", true),
];

/// Variables that are on with any value, as PRoot reads them.
const SWITCHES: &[(&str, &str)] =
    &[(env::PROOT_NO_SECCOMP, "proot_noseccomp"), (env::PROOT_NEW_SECCOMP, "proot_newseccomp")];

/// Reads udocker.conf of the machine, of the user, of the store, and the one that was named; later ones win.
///
/// `is_known`: whether the user has no file at his three places; it is asked before they are looked at.
pub(crate) fn apply_files(
    loaded: &mut Loaded,
    sources: &Sources,
    is_known: &mut dyn FnMut(&Settings, [&Path; 3]) -> bool,
) -> Result<(), ConfigError> {
    if variable(sources, env::UDOCKER_NOSYSCONF).is_none() {
        let trust = Trust::Site { owner: sources.site_owner };
        apply_file(loaded, &sources.system_conf, trust, sources)?;
    }
    let own = Trust::User { uid: sources.uid, site_owner: sources.site_owner };
    let user_file = loaded.own_directory.join(FILE_NAME);
    // What a file at the first place says may change the second, but then there is a file.
    let store_file = top_directory(loaded, sources).join(FILE_NAME);
    let toml_file = sources.home.join(run::OF_USER);
    if is_known(&loaded.settings, [&toml_file, &user_file, &store_file]) {
        loaded.has_user_files = false;
    } else {
        let has_toml = run::apply_user_file(loaded, &toml_file, own, sources)?;
        loaded.has_user_files = apply_user_files(loaded, &user_file, own, sources)? || has_toml;
    }
    match &sources.config {
        Some(path) if !apply_file(loaded, path, Trust::Named, sources)? => {
            Err(ConfigError::Missing { path: path.clone() })
        }
        _ => Ok(()),
    }
}

/// Whether there was one.
fn apply_user_files(loaded: &mut Loaded, user_file: &Path, own: Trust, sources: &Sources) -> Result<bool, ConfigError> {
    let mut found = apply_file(loaded, user_file, own, sources)?;
    let store_file = top_directory(loaded, sources).join(FILE_NAME);
    if store_file != user_file {
        match apply_file(loaded, &store_file, own, sources) {
            // Whoever uses a colleague's store did not ask for the colleague's settings.
            Err(error @ (ConfigError::Owner { .. } | ConfigError::Writable { .. })) => {
                loaded.warnings.push(format!("{error}; it is passed over"));
                found = true;
            }
            other => found |= other?,
        }
    }
    Ok(found)
}

const FILE_NAME: &str = "udocker.conf";

/// TOPDIR by what wins in the end, but for the files that are still to be read.
fn top_directory(loaded: &Loaded, sources: &Sources) -> PathBuf {
    let named = variable(sources, env::UDOCKER_DIR).or_else(|| variable(sources, env::SLURM_UDOCKER_DIR));
    let variable = named.map(|path| sources.cwd.join(path));
    sources.repo.clone().or(variable).unwrap_or_else(|| loaded.settings.stores[0].path.clone())
}

/// Whether there was such a file.
fn apply_file(loaded: &mut Loaded, path: &Path, trust: Trust, sources: &Sources) -> Result<bool, ConfigError> {
    let Some(text) = read_conf(path, trust)? else { return Ok(false) };
    let position = |line| Position { path: path.into(), line, column: None };
    let lines = ini::parse(&text)
        .map_err(|broken| ConfigError::Syntax { at: position(broken.line), message: broken.message })?;
    for (line, name) in lines.foreign {
        loaded
            .warnings
            .push(format!("{}: the section [{name}] is passed over: only [DEFAULT] is read", position(line)));
    }
    for setting in lines.settings {
        let at = position(setting.line);
        let Some(key) = keys::find(&setting.key) else {
            let near = crate::keys::nearest(&setting.key, KEYS.iter().map(|key| key.name));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            loaded
                .warnings
                .push(format!("{at}: the unknown key `{}` is passed over{hint}", setting.key.escape_debug()));
            continue;
        };
        let value = Value::parse(&setting.value).map_err(|expected| ConfigError::Value {
            at: at.clone(),
            key: key.name,
            expected,
        })?;
        let given = Given { key: key.name, value, place: Place::File(at), sources };
        apply(loaded, key, &given, &setting.value)?;
    }
    Ok(true)
}

/// Reads the variables.
pub(crate) fn apply_variables(loaded: &mut Loaded, sources: &Sources) -> Result<(), ConfigError> {
    for (name, key, empty) in VARIABLES {
        let value = match empty {
            true => sources.env.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_os_str()),
            false => variable(sources, name),
        };
        if let Some(value) = value {
            let value = Value::Text(value.to_owned());
            apply_variable(loaded, name, key, value, sources)?;
        }
    }
    for (name, key) in SWITCHES {
        if variable(sources, name).is_some() {
            apply_variable(loaded, name, key, Value::Text("True".into()), sources)?;
        }
    }
    Ok(())
}

fn apply_variable(
    loaded: &mut Loaded,
    name: &'static str,
    key: &str,
    value: Value,
    sources: &Sources,
) -> Result<(), ConfigError> {
    let key = keys::find(key).expect("the tables name keys that exist");
    let shown = value.text().unwrap_or_default().to_owned();
    apply(loaded, key, &Given { key: key.name, value, place: Place::Variable(name), sources }, &shown)
}

/// `written`: the value as it stands at its place.
fn apply(loaded: &mut Loaded, key: &'static keys::Key, given: &Given<'_>, written: &str) -> Result<(), ConfigError> {
    match key.role {
        Role::Acts(set, _) | Role::Kept(set, _) => set(loaded, given)?,
        Role::NoEffect(_) => {
            loaded.without_effect.insert(key.name, written.to_owned());
        }
    }
    loaded.note(key.noted_as, given.place.origin());
    Ok(())
}

/// TMPDIR is the lowest word on where temporary files go, as in udocker.
pub(crate) fn apply_tmpdir(loaded: &mut Loaded, sources: &Sources) {
    if let Some(path) = variable(sources, "TMPDIR").map(Path::new).filter(|path| path.is_absolute()) {
        loaded.settings.engines.tmp_dir = path.into();
        loaded.note("tmpdir", Origin::Variable("TMPDIR"));
    }
}

#[cfg(test)]
mod tests;
