//! The files that a site installs: Slurm's plugin, the launcher, and a site.toml that the plugin's line names.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use udocker_core::elf;
use udocker_core::env_vars::SLURM_UDOCKER_CONFIG;
use udocker_core::run::{Caller, UserSpec};
use udocker_core::settings::Settings;
use udocker_site_config::Sources;

use super::Finding;
use super::release::Release;

/// Who but root may change `path`, or what it is reached by; `None`: nobody.
fn who_else_writes(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    path.ancestors().find_map(|path| {
        let status = fs::symlink_metadata(path).ok()?;
        let (uid, mode) = (status.uid(), status.mode());
        let wrong = uid != 0 || mode & 0o022 != 0;
        wrong.then(|| format!("{} is of user {uid} and has mode {:04o}", path.display(), mode & 0o7777))
    })
}

const OWNER: &str = "root alone may write it and the directories above it: chown root, chmod go-w";

/// Slurm's plugin at `path`: of ours, for `release`, changed by root alone.
pub fn plugin(path: &Path, release: Option<Release>) -> Finding {
    let thing = path.display();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Finding::wrong(thing, format!("cannot be read: {error}"), "install the plugin of this release");
        }
    };
    let Some(version) = version(&bytes) else {
        return Finding::wrong(thing, "no plugin of Slurm", "install the plugin of this release");
    };
    let built_for = Release::of_number(version);
    if let Some(release) = release.filter(|release| *release != built_for) {
        let why = format!("for Slurm {built_for}, and {release} runs here");
        return Finding::wrong(thing, why, "install the plugin of this release: Slurm loads no other");
    }
    match who_else_writes(path) {
        Some(why) => Finding::wrong(thing, why, OWNER),
        None => Finding::good(thing, format!("for Slurm {built_for}")),
    }
}

/// Whether the file is our plugin: by what it calls itself, or, if it cannot be read, by its name.
pub fn is_ours(path: &Path) -> bool {
    match fs::read(path) {
        Ok(bytes) => elf::symbol(&bytes, "plugin_name").is_some_and(|name| name.starts_with(b"udocker\0")),
        Err(_) => path.file_name().is_some_and(|name| name.to_string_lossy().contains("udocker")),
    }
}

/// What a plugin says that it was built for (`plugin_version`).
fn version(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(elf::symbol(bytes, "plugin_version")?.get(..4)?.try_into().ok()?))
}

/// The launcher at `path`: there, executable for all, static, changed by root alone.
pub fn launcher(path: &Path) -> Finding {
    let thing = path.display();
    let hint = "install udocker-launch on each node, or name it by `launcher=` behind the plugin";
    let read = fs::metadata(path).and_then(|status| Ok((status, fs::read(path)?)));
    let (status, bytes) = match read {
        Ok(read) => read,
        Err(error) => return Finding::wrong(thing, format!("cannot be read: {error}"), hint),
    };
    if status.mode() & 0o111 != 0o111 {
        return Finding::wrong(
            thing,
            format!("has mode {:04o}", status.mode() & 0o7777),
            "all users run it: chmod 0755",
        );
    }
    if elf::has_interpreter(&bytes) {
        return Finding::wrong(thing, "it is linked dynamically", "install the one that is linked statically");
    }
    match who_else_writes(path) {
        Some(why) => Finding::wrong(thing, why, OWNER),
        None => Finding::good(thing, "static, executable"),
    }
}

/// The site.toml that `config=` names, as every program of ours reads it, and what it says.
pub fn configuration(path: &str) -> (Finding, Option<Settings>) {
    let env = vec![(SLURM_UDOCKER_CONFIG.into(), path.into())];
    let caller = Caller::gather(env, &UserSpec::Caller);
    match udocker_site_config::load(&Sources::of_caller(&caller)) {
        Ok(loaded) => (Finding::good(path, "the site's files, by `config=`"), Some(loaded.settings)),
        Err(error) => {
            let hint = "`udocker site check PATH` tells all of it; every contained task is refused until then";
            (Finding::wrong(path, error.to_string(), hint), None)
        }
    }
}
