//! Lays one file's `[mounts]` over what is known so far: lists add up, of the rest the last file's counts.

use std::path::PathBuf;

use toml::Spanned;
use udocker_core::policy::{Listed, MountPolicy, Scratch, SiteMount, SiteMountKind};
use udocker_core::run::MountSpec;

use crate::place::{Keep, Place};
use crate::schema::{Mounts, Tmp};
use crate::{ConfigError, Loaded, Sources};

/// One of the lists of paths.
type List = fn(&mut MountPolicy) -> &mut Vec<Listed>;

/// `[mounts]`.
pub(crate) fn merge(loaded: &mut Loaded, keys: Mounts, place: &Place<'_>, sources: &Sources, keep: Keep<'_>) {
    let own = [
        (keys.forced, "mounts.forced", SiteMountKind::Forced),
        (keys.by_default, "mounts.default", SiteMountKind::Default),
        (keys.optional, "mounts.optional", SiteMountKind::Optional),
    ];
    for (values, key, kind) in own {
        for value in values {
            keep(mount(&value, key, place, sources).map(|spec| {
                let origin = place.told(&value);
                policy(loaded).own.push(SiteMount { spec, kind, origin });
                loaded.note(key, place.origin(&value));
            }));
        }
    }
    let lists: [(_, _, List); 5] = [
        (Some(keys.forbidden_sources), "mounts.forbidden_sources", |policy| &mut policy.forbidden_sources),
        (Some(keys.forbidden_targets), "mounts.forbidden_targets", |policy| &mut policy.forbidden_targets),
        (keys.user_binds.allow, "mounts.user_binds.allow", |policy| policy.allow.get_or_insert_default()),
        (Some(keys.user_binds.readonly), "mounts.user_binds.readonly", |policy| &mut policy.read_only),
        (Some(keys.user_binds.deny), "mounts.user_binds.deny", |policy| &mut policy.deny),
    ];
    for (values, key, list) in lists {
        if key == "mounts.user_binds.allow" && values.is_some() {
            // An empty list allows nothing.
            list(policy(loaded));
        }
        for value in values.into_iter().flatten() {
            keep(listed(&value, key, place, sources).map(|path| {
                let origin = place.told(&value);
                list(policy(loaded)).push(Listed { path, origin });
                loaded.note(key, place.origin(&value));
            }));
        }
    }
    if let Some(value) = keys.home {
        policy(loaded).home = Some(*value.get_ref());
        loaded.note("mounts.home", place.origin(&value));
    }
    if let Some(value) = keys.tmp {
        policy(loaded).tmp = Some(match value.get_ref() {
            Tmp::Host => Scratch::Host,
            Tmp::Private => Scratch::Private,
        });
        loaded.note("mounts.tmp", place.origin(&value));
    }
}

fn policy(loaded: &mut Loaded) -> &mut MountPolicy {
    loaded.settings.mounts.get_or_insert_default()
}

/// A mount as `--mount` takes it, in which `{uid}` and `{user}` are replaced.
fn mount(
    value: &Spanned<String>,
    key: &'static str,
    place: &Place<'_>,
    sources: &Sources,
) -> Result<MountSpec, ConfigError> {
    let text = place.filled(value, key, sources)?;
    let spec = MountSpec::parse(text.as_ref());
    spec.map_err(|_| {
        place.wrong(value, key, "SOURCE:TARGET[:OPTION,…] or tmpfs:TARGET[:size=N]; {uid} and {user} are replaced")
    })
}

/// A path of a list. `{user}` is none here: it comes from a variable that its user sets.
fn listed(
    value: &Spanned<String>,
    key: &'static str,
    place: &Place<'_>,
    sources: &Sources,
) -> Result<PathBuf, ConfigError> {
    let text = value.get_ref().replace("{uid}", &sources.uid.to_string());
    let path: PathBuf = PathBuf::from(&text).components().collect();
    let parent = path.components().any(|part| part == std::path::Component::ParentDir);
    if path.is_absolute() && !parent && !text.contains(['{', '}', '*', '\0']) {
        Ok(path)
    } else {
        Err(place.wrong(value, key, "an absolute path without `..` and globs; {uid} is replaced"))
    }
}
