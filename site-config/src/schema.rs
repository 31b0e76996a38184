//! The keys of `site.toml` (interface.md, section 4): which exist, which are built, and their types.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use udocker_core::run::parse_size;

use crate::stage::Stage;
use crate::time::Time;
use crate::{ConfigError, Position};

/// One table: its name, the keys that are honoured, the keys that a later version honours.
struct Known(&'static str, &'static [&'static str], &'static [&'static str]);

const TABLES: &[Known] = &[
    Known("site", &["name", "contact"], &["schema", "docs_url"]),
    Known("paths", &["run_dir", "node_cache"], &["tmp", "launcher", "log_dir"]),
    Known("store", &["name", "path", "kind", "readonly", "keep_layers", "sync"], &["trust", "acl"]),
    Known(
        "registries",
        &["default", "allow", "deny", "index", "insecure", "ca_dir", "parallel", "retries"],
        &["mirror", "auth_file", "auth_helper", "backoff"],
    ),
    Known("policy", &["default", "rule", "pin"], &[]),
    Known("policy.rule", &["match", "action", "modes", "gpu", "writable", "reason"], &[]),
    Known("policy.rule.match", &["image", "digest", "store", "account", "partition", "queue", "group"], &[]),
    Known("modes", &["allowed", "preference"], &[]),
    Known("stage", &["node_cache_size"], &["when", "store"]),
    Known("limits", &["tmpfs_default", "image_max", "wait_timeout"], &["pull_parallel", "tmpfs_max"]),
];

/// Tables that a later version honours.
const LATER: &[&str] =
    &["mounts", "env", "run", "gpu", "mpi", "fabric", "module", "relay", "cleanup", "log", "slurm", "pbs", "override"];

/// A whole file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileConfig {
    pub site: Site,
    pub paths: Paths,
    pub store: Vec<Spanned<Store>>,
    pub registries: Registries,
    pub policy: PolicyKeys,
    pub modes: Modes,
    pub limits: LimitKeys,
    pub stage: Stage,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Site {
    pub name: Option<Spanned<String>>,
    pub contact: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Paths {
    pub run_dir: Option<Spanned<String>>,
    pub node_cache: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub name: Spanned<String>,
    pub path: Spanned<String>,
    pub kind: Kind,
    pub readonly: Option<bool>,
    pub keep_layers: Option<bool>,
    pub sync: Option<bool>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    User,
    Project,
    Site,
    Cache,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Registries {
    pub default: Option<Spanned<String>>,
    pub allow: Option<Spanned<Vec<Spanned<String>>>>,
    pub deny: Vec<Spanned<String>>,
    pub index: Option<Spanned<String>>,
    pub insecure: Vec<Spanned<String>>,
    pub ca_dir: Option<Spanned<PathBuf>>,
    pub parallel: Option<Spanned<u32>>,
    pub retries: Option<Spanned<u32>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PolicyKeys {
    pub default: Option<Spanned<RuleAction>>,
    pub rule: Vec<Spanned<Rule>>,
    pub pin: Option<Spanned<PinKey>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PinKey {
    Require,
    Prefer,
    Off,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuleAction {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(default, rename = "match")]
    pub matching: Match,
    pub action: RuleAction,
    pub modes: Option<Vec<Spanned<String>>>,
    pub gpu: Option<Spanned<bool>>,
    pub writable: Option<Spanned<bool>>,
    pub reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Match {
    pub image: Option<Vec<Spanned<String>>>,
    pub digest: Option<Vec<Spanned<String>>>,
    pub store: Option<Vec<Spanned<String>>>,
    pub account: Option<Vec<String>>,
    pub partition: Option<Vec<String>>,
    pub queue: Option<Vec<String>>,
    pub group: Option<Vec<u32>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Modes {
    pub allowed: Option<Spanned<Vec<Spanned<String>>>>,
    pub preference: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitKeys {
    pub tmpfs_default: Option<Spanned<Size>>,
    pub image_max: Option<Spanned<Size>>,
    pub wait_timeout: Option<Spanned<Time>>,
}

/// Bytes: a number, or a text with K, M, G or T.
#[derive(Clone, Copy)]
pub(crate) struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size above 0, as 1048576 or \"512G\"")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Size, E> {
                let size = u64::try_from(value).ok().filter(|size| *size > 0);
                size.map(Size).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Size, E> {
                parse_size(value).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Reads one file: TOML, then its keys, then its types, so that a message names the first thing that is wrong.
pub(crate) fn parse(path: &Path, text: &str) -> Result<FileConfig, ConfigError> {
    let wrong = |error: toml::de::Error| {
        let at = Position::of(path, text, &error.span().unwrap_or(0..0));
        ConfigError::Syntax { at, message: error.message().replace('\n', ", ") }
    };
    let table = DeTable::parse(text).map_err(wrong)?;
    let mut problems = Vec::new();
    check_keys(table.get_ref(), path, text, &mut problems);
    // The tables are sorted by name; the reader wants the first of the file.
    if let Some((_, problem)) = problems.into_iter().min_by_key(|(start, _)| *start) {
        return Err(problem);
    }
    toml::from_str(text).map_err(wrong)
}

fn check_keys(file: &DeTable<'_>, path: &Path, text: &str, problems: &mut Vec<(usize, ConfigError)>) {
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
        problems.push((span.start, problem));
    }
}

fn check_value(value: &DeValue<'_>, known: &Known, path: &Path, text: &str, problems: &mut Vec<(usize, ConfigError)>) {
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

fn check_table(table: &DeTable<'_>, known: &Known, path: &Path, text: &str, problems: &mut Vec<(usize, ConfigError)>) {
    let Known(table_name, honoured, later) = known;
    for (name, value) in table {
        let span = name.span();
        let name = name.get_ref().as_ref();
        if honoured.contains(&name) {
            let inner = format!("{table_name}.{name}");
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
        problems.push((span.start, problem));
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
