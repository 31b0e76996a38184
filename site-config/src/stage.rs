//! `[paths] node_cache` and `[stage]`: where a node keeps copies of images, and how much of them.

use serde::Deserialize;
use toml::Spanned;
use udocker_core::settings::NodeCache;

use crate::merge::Place;
use crate::schema::Size;
use crate::{ConfigError, Loaded, Sources};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Stage {
    pub node_cache_size: Option<Spanned<Size>>,
}

/// Lays one file's keys over what is known so far. A size without a place says nothing yet: another file may name it.
pub(crate) fn merge_stage(
    loaded: &mut Loaded,
    node_cache: Option<Spanned<String>>,
    keys: Stage,
    place: &Place<'_>,
    sources: &Sources,
) -> Result<(), ConfigError> {
    if let Some(value) = node_cache {
        let path = place.template(&value, "paths.node_cache", sources)?;
        loaded.note("paths.node_cache", place.origin(&value));
        loaded.settings.node_cache = Some(NodeCache { path, bytes: None });
    }
    if let Some(value) = keys.node_cache_size {
        loaded.note("stage.node_cache_size", place.origin(&value));
        loaded.node_cache_size = Some(value.get_ref().0);
    }
    let size = loaded.node_cache_size;
    if let Some(cache) = &mut loaded.settings.node_cache {
        cache.bytes = size;
    }
    Ok(())
}
