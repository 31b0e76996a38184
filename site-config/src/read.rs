//! Reads one file of the site's: TOML, then its keys, then its types. All that is wrong is told.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use crate::keys::check_keys;
use crate::schema::FileConfig;
use crate::{ConfigError, Position};

/// What `text`, the file at `path`, says. What is wrong with it goes to `problems`, in the order of the file, and is left
/// out of the result.
pub(crate) fn read(path: &Path, text: &str, problems: &mut Vec<ConfigError>) -> FileConfig {
    let mut found = Vec::new();
    let config = understand(path, text, &mut found);
    // The tables are sorted by name; the reader wants the order of the file.
    found.sort_by_key(|(span, _)| span.start);
    problems.extend(found.into_iter().map(|(_, problem)| problem));
    config
}

fn understand(path: &Path, text: &str, found: &mut Vec<(Range<usize>, ConfigError)>) -> FileConfig {
    let wrong = |error: toml::de::Error| {
        let span = error.span().unwrap_or(0..0);
        let at = Position::of(path, text, &span);
        (span, ConfigError::Syntax { at, message: error.message().replace('\n', ", ") })
    };
    let mut table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(_) => {
            // What follows an error is read as far as it goes; its types would be a guess.
            found.extend(DeTable::parse_recoverable(text).1.into_iter().map(wrong));
            return FileConfig::default();
        }
    };
    check_keys(table.get_ref(), path, text, found);
    loop {
        for (span, _) in found.iter() {
            prune(table.get_mut(), span);
        }
        let error = match FileConfig::deserialize(Deserializer::from(table)) {
            Ok(config) => return config,
            Err(error) => error,
        };
        // The reading ended at one wrong type: once more without it, for those behind.
        let (span, problem) = wrong(error);
        let is_new = found.iter().all(|(other, _)| *other != span);
        found.push((span, problem));
        match DeTable::parse(text) {
            Ok(again) if is_new => table = again,
            _ => return FileConfig::default(),
        }
    }
}

/// Removes what is wrong at `span`: a key, or in a list of tables the whole entry, which may be nothing without it.
/// Whether there was any.
fn prune<'a>(table: &mut DeTable<'a>, span: &Range<usize>) -> bool {
    let mut wrong = Vec::new();
    for (key, value) in table.iter_mut() {
        // A list of tables has the place of its first one.
        let is_it = value.span() == *span && !is_list_of_tables(value.get_ref());
        if key.span() == *span || is_it || has_wrong(value, span) {
            wrong.push(key.clone());
        }
    }
    wrong.iter().for_each(|key| drop(table.remove(key)));
    !wrong.is_empty()
}

fn is_list_of_tables(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(is_list)
}

fn is_list(list: &DeArray<'_>) -> bool {
    list.iter().any(|entry| entry.get_ref().is_table())
}

/// Whether `value` is wrong as a whole, for what is at `span`; what is wrong in parts is pruned.
fn has_wrong<'a>(value: &mut Spanned<DeValue<'a>>, span: &Range<usize>) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => {
            prune(table, span);
            false
        }
        DeValue::Array(list) if is_list(list) => {
            let mut kept = DeArray::new();
            for mut entry in std::mem::replace(list, DeArray::new()) {
                if !is_wrong_entry(&mut entry, span) {
                    kept.push(entry);
                }
            }
            *list = kept;
            false
        }
        DeValue::Array(list) => list.iter().any(|entry| entry.span() == *span),
        _ => false,
    }
}

fn is_wrong_entry<'a>(entry: &mut Spanned<DeValue<'a>>, span: &Range<usize>) -> bool {
    let is_it = entry.span() == *span;
    match entry.get_mut() {
        DeValue::Table(table) => prune(table, span) || is_it,
        _ => is_it,
    }
}
