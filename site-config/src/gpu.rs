//! `[gpu]`: which GPUs jobs see that do not say, and where drivers are told.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;
use udocker_core::settings::GpuDefault;

use crate::Loaded;
use crate::place::{Keep, Place};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gpu {
    pub default: Option<Spanned<DefaultKey>>,
    pub cdi_dirs: Option<Spanned<Vec<Spanned<PathBuf>>>>,
    pub driver_root: Option<Spanned<PathBuf>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DefaultKey {
    Auto,
    None,
    All,
}

/// Lays one file's keys over what is known so far; a list replaces an earlier file's.
pub(crate) fn merge_gpu(loaded: &mut Loaded, keys: Gpu, place: &Place<'_>, keep: Keep<'_>) {
    const PATH: &str = "an absolute path";
    if let Some(value) = &keys.default {
        loaded.settings.gpu.default = match value.get_ref() {
            DefaultKey::Auto => GpuDefault::Auto,
            DefaultKey::None => GpuDefault::None,
            DefaultKey::All => GpuDefault::All,
        };
        loaded.note("gpu.default", place.origin(value));
    }
    if let Some(list) = &keys.cdi_dirs {
        match list.get_ref().iter().find(|path| !path.get_ref().is_absolute()) {
            Some(wrong) => keep(Err(place.wrong(wrong, "gpu.cdi_dirs", PATH))),
            None => {
                loaded.settings.gpu.cdi_dirs = list.get_ref().iter().map(|path| path.get_ref().clone()).collect();
                loaded.note("gpu.cdi_dirs", place.origin(list));
            }
        }
    }
    match keys.driver_root {
        Some(value) if !value.get_ref().is_absolute() => keep(Err(place.wrong(&value, "gpu.driver_root", PATH))),
        Some(value) => {
            loaded.note("gpu.driver_root", place.origin(&value));
            loaded.settings.gpu.driver_root = value.into_inner();
        }
        None => {}
    }
}
