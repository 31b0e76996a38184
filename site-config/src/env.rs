//! Lays one file's `[env]` over what is known so far: lists add up, of a variable the last file's value counts.

use std::collections::BTreeMap;

use toml::Spanned;
use udocker_core::run::{SiteEnv, may_be_set};

use crate::place::{Keep, Place};
use crate::schema::Env;
use crate::{Loaded, Sources};

type Variables = BTreeMap<Spanned<String>, String>;
type Pairs = fn(&mut SiteEnv) -> &mut Vec<(String, String)>;
type Globs = fn(&mut SiteEnv) -> &mut Vec<String>;

/// `[env]`.
pub(crate) fn merge(loaded: &mut Loaded, keys: Env, place: &Place<'_>, sources: &Sources, keep: Keep<'_>) {
    const NAME: &str = "names of variables that no scheduler and process manager sets";
    let variables: [(Variables, _, Pairs); 3] = [
        (keys.set, "env.set", |env| &mut env.set),
        (keys.prepend, "env.prepend", |env| &mut env.prepend),
        (keys.append, "env.append", |env| &mut env.append),
    ];
    for (values, key, pairs) in variables {
        for (name, value) in values {
            if !may_be_set(name.get_ref()) || value.contains('\0') {
                keep(Err(place.wrong(&name, key, NAME)));
                continue;
            }
            loaded.note(key, place.origin(&name));
            if sources.in_detail {
                loaded.note(&format!("{key}.{}", name.get_ref()), place.origin(&name));
            }
            let pairs = pairs(loaded.settings.env.get_or_insert_default());
            pairs.retain(|(other, _)| other != name.get_ref());
            pairs.push((name.into_inner(), value));
        }
    }
    let lists: [(Vec<Spanned<String>>, _, Globs); 3] = [
        (keys.unset, "env.unset", |env| &mut env.unset),
        (keys.pass, "env.pass", |env| &mut env.pass),
        (keys.drop, "env.drop", |env| &mut env.drop),
    ];
    for (values, key, globs) in lists {
        for value in values {
            loaded.note(key, place.origin(&value));
            globs(loaded.settings.env.get_or_insert_default()).push(value.into_inner());
        }
    }
}
