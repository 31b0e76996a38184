//! Which keys of `site.toml` there are (interface.md, section 4), and which of them are built.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::{ConfigError, Position};

/// One table: its name, the keys that are honoured, the keys that a later version honours.
struct Known(&'static str, &'static [&'static str], &'static [&'static str]);

const TABLES: &[Known] = &[
    Known("site", &["name", "contact"], &["schema", "docs_url"]),
    Known("paths", &["run_dir", "node_cache"], &["tmp", "launcher", "log_dir"]),
    Known("store", &["name", "path", "kind", "readonly", "keep_layers", "sync", "trust", "acl"], &[]),
    Known("store.acl", &["users", "groups"], &[]),
    Known(
        "registries",
        &["default", "allow", "deny", "index", "insecure", "ca_dir", "parallel", "retries"],
        &["mirror", "auth_file", "auth_helper", "backoff"],
    ),
    Known("policy", &["default", "rule", "pin"], &[]),
    Known("policy.rule", &["match", "action", "modes", "gpu", "writable", "reason"], &[]),
    Known("policy.rule.match", &["image", "digest", "store", "account", "partition", "queue", "group"], &[]),
    Known(
        "mounts",
        &["forced", "default", "optional", "forbidden_sources", "forbidden_targets", "home", "tmp", "user_binds"],
        &[],
    ),
    Known("mounts.user_binds", &["allow", "readonly", "deny"], &[]),
    Known("env", &["set", "prepend", "append", "unset", "pass", "drop"], &[]),
    Known("run", &["keep", "user", "entrypoint", "write", "batch", "share"], &[]),
    Known("override", &["partition", "queue", "account", "policy", "mounts", "modes", "limits", "gpu"], &[]),
    Known("modes", &["allowed", "preference"], &[]),
    Known("stage", &["when", "store", "node_cache_size"], &[]),
    Known("gpu", &["default", "cdi_dirs", "driver_root"], &["compat", "require_check"]),
    Known("mpi", &["daemons", "require"], &[]),
    Known("relay", &["enabled", "commands"], &[]),
    Known("cleanup", &["retire_after"], &["orphan_after"]),
    Known("limits", &["tmpfs_default", "image_max", "wait_timeout"], &["pull_parallel", "tmpfs_max"]),
];

/// Tables that a later version honours.
const LATER: &[&str] = &["fabric", "module", "log", "slurm", "pbs"];

/// Unknown keys and those that are not built, each with its place in bytes.
pub(crate) fn check_keys(file: &DeTable<'_>, path: &Path, text: &str, problems: &mut Vec<(Range<usize>, ConfigError)>) {
    for (name, value) in file {
        let span = name.span();
        let name = name.get_ref().as_ref();
        if let Some(known) = TABLES.iter().find(|known| known.0 == name) {
            check_value(value.get_ref(), known, path, text, problems);
            continue;
        }
        let at = Position::of(path, text, &span);
        let key = printable(name);
        let problem = if LATER.contains(&name) {
            ConfigError::Unsupported { at, key }
        } else {
            let names = TABLES.iter().map(|known| known.0).chain(LATER.iter().copied());
            let names = names.filter(|name| !name.contains('.'));
            ConfigError::UnknownKey { at, key, nearest: nearest(name, names).map(str::to_owned) }
        };
        problems.push((span, problem));
    }
}

fn check_value(
    value: &DeValue<'_>,
    known: &Known,
    path: &Path,
    text: &str,
    problems: &mut Vec<(Range<usize>, ConfigError)>,
) {
    match value {
        DeValue::Table(table) => check_table(table, known, path, text, problems),
        DeValue::Array(list) => {
            for entry in list.iter() {
                if let DeValue::Table(table) = entry.get_ref() {
                    check_table(table, known, path, text, problems);
                }
            }
        }
        // A wrong type: told when the types are read.
        _ => {}
    }
}

fn check_table(
    table: &DeTable<'_>,
    known: &Known,
    path: &Path,
    text: &str,
    problems: &mut Vec<(Range<usize>, ConfigError)>,
) {
    let Known(table_name, honoured, later) = known;
    for (name, value) in table {
        let span = name.span();
        let name = name.get_ref().as_ref();
        if honoured.contains(&name) {
            // An override repeats tables.
            let inner = if *table_name == "override" { name.to_owned() } else { format!("{table_name}.{name}") };
            if let Some(inner) = TABLES.iter().find(|known| known.0 == inner) {
                check_value(value.get_ref(), inner, path, text, problems);
            }
            continue;
        }
        let at = Position::of(path, text, &span);
        let key = format!("{table_name}.{}", printable(name));
        let problem = if later.contains(&name) {
            ConfigError::Unsupported { at, key }
        } else {
            let nearest = nearest(name, honoured.iter().chain(later.iter()).copied());
            ConfigError::UnknownKey { at, key, nearest: nearest.map(|nearest| format!("{table_name}.{nearest}")) }
        };
        problems.push((span, problem));
    }
}

/// Whether a key is known.
pub(crate) enum State {
    Built,
    /// A later version honours it.
    Later,
    /// It is not; the nearest that is.
    Unknown(Option<String>),
}

/// What is known of `key`, a table or `table.key`.
pub(crate) fn state(key: &str) -> State {
    let all = |known: &Known, keys: &[&str]| keys.iter().map(|key| format!("{}.{key}", known.0)).collect::<Vec<_>>();
    let built: Vec<_> = TABLES.iter().flat_map(|known| all(known, known.1)).collect();
    let later: Vec<_> = TABLES.iter().flat_map(|known| all(known, known.2)).collect();
    let table = key.split('.').next().unwrap_or(key);
    if built.iter().any(|known| known == key) || TABLES.iter().any(|known| known.0 == key) {
        State::Built
    } else if LATER.contains(&table) || later.iter().any(|known| known == key) {
        State::Later
    } else {
        let tables = TABLES.iter().map(|known| known.0).filter(|name| !name.contains('.') && !key.contains('.'));
        let keys = built.iter().chain(&later).map(String::as_str);
        State::Unknown(nearest(key, keys.chain(tables)).map(str::to_owned))
    }
}

fn printable(name: &str) -> String {
    name.chars().take(60).flat_map(char::escape_debug).collect()
}

/// The known name with the fewest changed letters, if a third or less are changed.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|other| (distance(name, other), other));
    let (distance, found) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= found.len().div_ceil(3)).then_some(found)
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
