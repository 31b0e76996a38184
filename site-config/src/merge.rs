//! Lays one file over what is known so far, and notes who set what.

use std::path::Path;

use toml::Spanned;
use udocker_core::settings::{StoreKind, StoreParts, StoreSettings};

use crate::place::{Keep, Place};
use crate::schema::{FileConfig, Kind, LimitKeys, Registries, Store};
use crate::{ConfigError, Loaded, Origin, Sources, access, cleanup, env, gpu, mounts, mpi, policy, relay, run, stage};

/// Lays `config`, read from `path` with `text`, over `loaded`; values that cannot be used go to `problems` instead.
pub(crate) fn merge(
    loaded: &mut Loaded,
    config: FileConfig,
    (path, text): (&Path, &str),
    sources: &Sources,
    problems: &mut Vec<ConfigError>,
) {
    let place = Place { path, text };
    let mut keep = |merged: Result<(), ConfigError>| problems.extend(merged.err());
    if let Some(value) = config.site.name {
        loaded.note("site.name", place.origin(&value));
        loaded.site_name = Some(value.into_inner());
    }
    if let Some(value) = config.site.contact {
        loaded.note("site.contact", place.origin(&value));
        loaded.settings.contact = Some(value.into_inner());
    }
    if let Some(value) = config.paths.run_dir {
        keep(set_run_dir(loaded, &value, &place, sources));
    }
    stage::merge_stage(loaded, config.paths.node_cache, config.stage, &place, sources, &mut keep);
    for store in config.store {
        keep(add_store(loaded, store, &place, sources));
    }
    let registries = config.registries;
    policy::merge_access(loaded, registries.allow.as_ref(), &registries.deny, &place, &mut keep);
    merge_registries(loaded, registries, &place, &mut keep);
    policy::merge_policy(loaded, config.policy, &place, &mut keep);
    policy::merge_modes(loaded, config.modes, &place, &mut keep);
    mounts::merge(loaded, config.mounts, &place, sources, &mut keep);
    env::merge(loaded, config.env, &place, sources, &mut keep);
    run::merge(loaded, config.run, &place, sources, &mut keep);
    gpu::merge_gpu(loaded, config.gpu, &place, &mut keep);
    mpi::merge_mpi(loaded, config.mpi, &place, &mut keep);
    relay::merge_relay(loaded, config.relay, &place, &mut keep);
    merge_limits(loaded, &config.limits, &place);
    cleanup::merge(loaded, &config.cleanup, &place);
}

/// `[limits]`.
pub(crate) fn merge_limits(loaded: &mut Loaded, limits: &LimitKeys, place: &Place<'_>) {
    if let Some(value) = &limits.tmpfs_default {
        loaded.settings.limits.tmpfs_bytes = Some(value.get_ref().0);
        loaded.note("limits.tmpfs_default", place.origin(value));
    }
    if let Some(value) = &limits.image_max {
        loaded.settings.limits.image_bytes = value.get_ref().0;
        loaded.note("limits.image_max", place.origin(value));
    }
    if let Some(value) = &limits.wait_timeout {
        loaded.settings.limits.wait = value.get_ref().0;
        loaded.note("limits.wait_timeout", place.origin(value));
    }
}

fn set_run_dir(
    loaded: &mut Loaded,
    value: &Spanned<String>,
    place: &Place<'_>,
    sources: &Sources,
) -> Result<(), ConfigError> {
    let path = place.template(value, "paths.run_dir", sources)?;
    if loaded.origin("paths.run_dir") != &Origin::Default {
        // An earlier file put its own first.
        loaded.settings.run_dirs.remove(0);
    }
    loaded.settings.run_dirs.insert(0, path);
    loaded.note("paths.run_dir", place.origin(value));
    Ok(())
}

/// `[registries]` but for whom one may ask.
fn merge_registries(loaded: &mut Loaded, registries: Registries, place: &Place<'_>, keep: Keep<'_>) {
    if let Some(value) = registries.default {
        let host = place.host(&value, "registries.default");
        keep(host.map(|host| {
            loaded.settings.registries.default = host;
            loaded.note("registries.default", place.origin(&value));
        }));
    }
    if let Some(value) = registries.index {
        loaded.note("registries.index", place.origin(&value));
        loaded.settings.registries.index = value.into_inner();
    }
    for value in &registries.insecure {
        keep(place.host(value, "registries.insecure").map(|host| {
            loaded.settings.registries.insecure.push(host);
            loaded.note("registries.insecure", place.origin(value));
        }));
    }
    match registries.ca_dir {
        Some(value) if !value.get_ref().is_absolute() => {
            keep(Err(place.wrong(&value, "registries.ca_dir", "an absolute path")));
        }
        Some(value) => {
            loaded.note("registries.ca_dir", place.origin(&value));
            loaded.settings.registries.ca_dir = Some(value.into_inner());
        }
        None => {}
    }
    if let Some(value) = registries.parallel {
        let number = place.number(&value, "registries.parallel", 1..=64, "a number from 1 to 64");
        keep(number.map(|number| {
            loaded.settings.registries.parallel = number as usize;
            loaded.note("registries.parallel", place.origin(&value));
        }));
    }
    if let Some(value) = registries.retries {
        let number = place.number(&value, "registries.retries", 0..=100, "a number from 0 to 100");
        keep(number.map(|number| {
            loaded.settings.registries.retries = number;
            loaded.note("registries.retries", place.origin(&value));
        }));
    }
}

fn add_store(
    loaded: &mut Loaded,
    store: Spanned<Store>,
    place: &Place<'_>,
    sources: &Sources,
) -> Result<(), ConfigError> {
    let at = place.origin(&store);
    let store = store.into_inner();
    let name = store.name.get_ref();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(place.wrong(&store.name, "store.name", "letters, digits, `-`, `_` and `.`"));
    }
    if loaded.settings.stores.iter().any(|other| other.name == *name) {
        return Err(place.wrong(&store.name, "store.name", "a name that no other store has"));
    }
    let path = place.template(&store.path, "store.path", sources)?;
    let access = access::of_store(store.trust, store.acl, place)?;
    loaded.note(&format!("store.{name}"), at);
    let kind = match store.kind {
        Kind::User => StoreKind::User,
        Kind::Project => StoreKind::Project,
        Kind::Site => StoreKind::Site,
        Kind::Cache => StoreKind::Cache,
    };
    loaded.settings.stores.push(StoreSettings {
        name: store.name.into_inner(),
        path,
        parts: StoreParts::default(),
        kind,
        readonly: store.readonly.unwrap_or(kind == StoreKind::Site),
        keep_layers: store.keep_layers.unwrap_or(true),
        sync: store.sync.unwrap_or(kind != StoreKind::Cache),
        access,
    });
    Ok(())
}
