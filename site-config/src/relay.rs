//! `[relay]`: which commands of the scheduler work inside.

use serde::Deserialize;
use toml::Spanned;

use crate::Loaded;
use crate::place::{Keep, Place};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Relay {
    pub enabled: Option<Spanned<bool>>,
    pub commands: Option<Vec<Spanned<String>>>,
}

/// Lays one file's keys over what is known so far; a list replaces an earlier file's.
pub(crate) fn merge_relay(loaded: &mut Loaded, keys: Relay, place: &Place<'_>, keep: Keep<'_>) {
    if let Some(value) = &keys.enabled {
        loaded.settings.relay.enabled = *value.get_ref();
        loaded.note("relay.enabled", place.origin(value));
    }
    let Some(commands) = keys.commands else { return };
    let mut names = Vec::new();
    for value in commands {
        if is_command(value.get_ref()) {
            loaded.note("relay.commands", place.origin(&value));
            names.push(value.into_inner());
        } else {
            keep(Err(place.wrong(&value, "relay.commands", "a command's name or absolute path")));
        }
    }
    loaded.settings.relay.commands = Some(names);
}

/// A name without a directory, or a path from the root on.
fn is_command(text: &str) -> bool {
    let name = text.rsplit('/').next().unwrap_or_default();
    let is_name = !matches!(name, "" | "." | "..") && !text.contains('\0');
    is_name && (text == name || text.starts_with('/'))
}
