//! `[run]`: what runs are where nobody asks for something else. The site's files have it, and the user's config.toml.

use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;
use udocker_core::run::Entrypoint;

use crate::file::{Trust, read_conf};
use crate::keys::{State, nearest, state};
use crate::place::{Keep, Place};
use crate::schema::Run;
use crate::{ConfigError, Loaded, Position, Sources, read};

/// Lays one file's `[run]` over what is known so far.
pub(crate) fn merge(loaded: &mut Loaded, keys: Run, place: &Place<'_>, sources: &Sources, keep: Keep<'_>) {
    if let Some(value) = &keys.keep {
        loaded.settings.keep = *value.get_ref();
        loaded.note("run.keep", place.origin(value));
    }
    if let Some(value) = &keys.entrypoint {
        let entrypoint = if *value.get_ref() { Entrypoint::Image } else { Entrypoint::None };
        loaded.settings.run.entrypoint = Some(entrypoint);
        loaded.note("run.entrypoint", place.origin(value));
    }
    const WRITE: &str = "none, tmpfs, tmpfs:SIZE, or dir:PATH with an absolute path; {uid} and {user} are replaced";
    let write = keys.write.map(|value| {
        let text = place.filled(&value, "run.write", sources)?;
        let write = text.parse().map_err(|_| place.wrong(&value, "run.write", WRITE))?;
        loaded.settings.run.write = Some(write);
        loaded.note("run.write", place.origin(&value));
        Ok(())
    });
    keep(write.unwrap_or(Ok(())));
    let mut text = |value: Option<Spanned<String>>, key, expected, set: Set| {
        let Some(value) = value else { return };
        keep(match set(loaded, value.get_ref()) {
            true => {
                loaded.note(key, place.origin(&value));
                Ok(())
            }
            false => Err(place.wrong(&value, key, expected)),
        });
    };
    text(keys.user, "run.user", "self, root, image, or a name or number, with or without :GROUP", |loaded, text| {
        put(&mut loaded.settings.run.user, text)
    });
    text(keys.batch, "run.batch", "container or host", |loaded, text| put(&mut loaded.settings.run.batch, text));
    text(keys.share, "run.share", "node or task", |loaded, text| put(&mut loaded.settings.run.share, text));
}

type Set = fn(&mut Loaded, &str) -> bool;

/// Whether `text` could be read into `place`.
fn put<T: std::str::FromStr>(place: &mut Option<T>, text: &str) -> bool {
    let value = text.parse().ok();
    let is_one = value.is_some();
    *place = value.or_else(|| place.take());
    is_one
}

/// Where the user's config.toml lies, below the home.
pub(crate) const OF_USER: &str = ".config/udocker/config.toml";

/// Reads the user's config.toml; whether there was one.
pub(crate) fn apply_user_file(
    loaded: &mut Loaded,
    path: &Path,
    own: Trust,
    sources: &Sources,
) -> Result<bool, ConfigError> {
    let Some(text) = read_conf(path, own)? else { return Ok(false) };
    if let Ok(table) = DeTable::parse(&text)
        && let Some(name) = table.get_ref().keys().find(|name| name.get_ref().as_ref() != "run")
    {
        let (at, key) = (Position::of(path, &text, &name.span()), name.get_ref().chars().take(60).collect::<String>());
        return Err(match state(&key) {
            State::Unknown(_) => {
                let nearest = nearest(&key, ["run"].into_iter()).map(str::to_owned);
                ConfigError::UnknownKey { at, key: key.escape_debug().to_string(), nearest }
            }
            State::Built | State::Later => ConfigError::OfSite { at, key },
        });
    }
    let mut problems = Vec::new();
    let config = read::read(path, &text, &mut problems);
    merge(loaded, config.run, &Place { path, text: &text }, sources, &mut |merged| problems.extend(merged.err()));
    problems.into_iter().next().map_or(Ok(true), Err)
}
