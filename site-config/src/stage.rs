//! `[paths] node_cache` and `[stage]`: when images of jobs come, into which store, and where a node keeps copies of them.

use serde::Deserialize;
use toml::Spanned;
use udocker_core::settings::{NodeCache, StageWhen, StoreSettings};

use crate::place::{Keep, Place};
use crate::size::Size;
use crate::{ConfigError, Loaded, Origin, Sources};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Stage {
    pub when: Option<Spanned<String>>,
    pub store: Option<Spanned<String>>,
    pub node_cache_size: Option<Spanned<Size>>,
}

/// Lays one file's keys over what is known so far. A size without a place says nothing yet: another file may name it.
pub(crate) fn merge_stage(
    loaded: &mut Loaded,
    node_cache: Option<Spanned<String>>,
    keys: Stage,
    place: &Place<'_>,
    sources: &Sources,
    keep: Keep<'_>,
) {
    if let Some(value) = keys.when {
        let when = StageWhen::named(value.get_ref());
        keep(when.ok_or_else(|| place.wrong(&value, "stage.when", "`start`, `submit` or `prolog`")).map(|when| {
            loaded.note("stage.when", place.origin(&value));
            loaded.settings.stage.when = when;
        }));
    }
    if let Some(value) = keys.store {
        loaded.note("stage.store", place.origin(&value));
        loaded.settings.stage.store = Some(value.into_inner());
    }
    if let Some(value) = node_cache {
        keep(place.template(&value, "paths.node_cache", sources).map(|path| {
            loaded.note("paths.node_cache", place.origin(&value));
            loaded.settings.node_cache = Some(NodeCache { path, bytes: None });
        }));
    }
    if let Some(value) = keys.node_cache_size {
        loaded.note("stage.node_cache_size", place.origin(&value));
        loaded.node_cache_size = Some(value.get_ref().0);
    }
    let size = loaded.node_cache_size;
    if let Some(cache) = &mut loaded.settings.node_cache {
        cache.bytes = size;
    }
}

/// Jobs stage into a store that takes pulls; a later file may have defined it.
pub(crate) fn check_store(loaded: &Loaded, problems: &mut Vec<ConfigError>) {
    let Some(name) = &loaded.settings.stage.store else { return };
    let Origin::File(at) = loaded.origin("stage.store").clone() else { return };
    let takes = |store: &StoreSettings| store.kind.takes_pulls() && !store.readonly;
    let expected = match loaded.settings.stores.iter().find(|store| store.name == *name) {
        Some(store) if takes(store) => return,
        Some(_) => "a store into which jobs may pull, of kind \"user\" or \"project\" and not readonly",
        None => "the `name` of a [[store]]",
    };
    problems.push(ConfigError::Value { at, key: "stage.store", expected });
}
