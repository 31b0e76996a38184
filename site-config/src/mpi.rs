//! `[mpi]`: what an mpirun on the host may start in a container.

use serde::Deserialize;
use toml::Spanned;

use crate::Loaded;
use crate::place::{Keep, Place};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mpi {
    pub daemons: Option<Vec<Spanned<String>>>,
    pub require: Option<Spanned<bool>>,
}

/// Lays one file's keys over what is known so far; a list replaces an earlier file's.
pub(crate) fn merge_mpi(loaded: &mut Loaded, keys: Mpi, place: &Place<'_>, keep: Keep<'_>) {
    if let Some(value) = &keys.require {
        loaded.settings.mpi.require = *value.get_ref();
        loaded.note("mpi.require", place.origin(value));
    }
    let Some(daemons) = keys.daemons else { return };
    let mut names = Vec::new();
    for value in daemons {
        let name = value.get_ref();
        if name.is_empty() || name.contains(['/', '\0']) {
            keep(Err(place.wrong(&value, "mpi.daemons", "a program's name without a directory")));
        } else {
            loaded.note("mpi.daemons", place.origin(&value));
            names.push(value.into_inner());
        }
    }
    loaded.settings.mpi.daemons = Some(names);
}
