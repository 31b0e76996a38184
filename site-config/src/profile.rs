//! Profiles: options of a job in a file, beneath what variables and the command line say. What they ask for is judged as if
//! the user had typed it.
//!
//! ```text
//! NAME        ~/.config/udocker/profiles/NAME.toml, else /etc/udocker/profiles/NAME.toml
//! DIR/FILE    that file; a word with a slash, or that ends in .toml
//! ```

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use udocker_core::run::{JOB_OPTIONS, JobOption, OptionKind, Said};

use crate::file::{Text, Trust, read_conf, read_profile};
use crate::keys::nearest;
use crate::{ConfigError, Position, Sources};

/// Options that are of a command and no profile's.
const NOT_HERE: [&str; 2] = ["profile", "explain"];
const EXPECTED_FLAG: &str = "true or false";
const EXPECTED_SINGLE: &str = "a text";
const EXPECTED_LIST: &str = "a text, or a list of texts";

/// What the profile `name` asks for, in the order of the file.
///
/// # Errors
/// [`ConfigError`] if there is none, or it cannot be trusted, read or understood.
pub fn profile(name: &OsStr, sources: &Sources) -> Result<Vec<Said>, ConfigError> {
    let (path, text) = find(name, sources)?;
    let parsed = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
        at: Position::of(&path, &text, &error.span().unwrap_or(0..0)),
        message: error.message().replace('\n', ", "),
    })?;
    let mut entries: Vec<_> = parsed.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut out = Vec::new();
    for (key, value) in entries {
        let at = |span| Position::of(&path, &text, &span);
        let name = key.get_ref().as_ref();
        let known = JobOption::find(name).ok_or_else(|| {
            let names = JOB_OPTIONS.iter().map(|option| option.name).filter(|name| !NOT_HERE.contains(name));
            let nearest = nearest(name, names).map(str::to_owned);
            ConfigError::UnknownKey {
                at: at(key.span()),
                key: name.chars().take(60).flat_map(char::escape_debug).collect(),
                nearest,
            }
        })?;
        if NOT_HERE.contains(&known.name) {
            return Err(ConfigError::NotInProfile { at: at(key.span()), key: known.name });
        }
        let mut say = |value: &str, span| {
            let origin = at(span).to_string();
            out.push(Said { option: known.name, value: value.into(), origin });
        };
        let wrong = |span, expected| ConfigError::Value { at: at(span), key: known.name, expected };
        match (known.kind, value.get_ref()) {
            (OptionKind::Flag, DeValue::Boolean(true)) => say("", key.span()),
            (OptionKind::Flag, DeValue::Boolean(false)) => {}
            (OptionKind::Flag, _) => return Err(wrong(value.span(), EXPECTED_FLAG)),
            (OptionKind::Single | OptionKind::List, DeValue::String(text)) => say(text, value.span()),
            (OptionKind::Single, DeValue::Integer(number)) => say(&number.to_string(), value.span()),
            (OptionKind::Single, _) => return Err(wrong(value.span(), EXPECTED_SINGLE)),
            (OptionKind::List, DeValue::Array(list)) => {
                for entry in list.iter() {
                    match entry.get_ref() {
                        DeValue::String(text) => say(text, entry.span()),
                        _ => return Err(wrong(entry.span(), EXPECTED_LIST)),
                    }
                }
            }
            (OptionKind::List, _) => return Err(wrong(value.span(), EXPECTED_LIST)),
        }
    }
    Ok(out)
}

/// The file of `name`: the user's own, or one that is the site's.
fn find(name: &OsStr, sources: &Sources) -> Result<Text, ConfigError> {
    let own = Trust::User { uid: sources.uid, site_owner: sources.site_owner };
    let read = |path: PathBuf| Ok(read_conf(&path, own)?.map(|text| (path, text)));
    let none = |looked: Vec<PathBuf>| ConfigError::NoProfile { name: name.display().to_string(), looked };
    if name.as_bytes().contains(&b'/') || name.as_bytes().ends_with(b".toml") {
        let path = sources.cwd.join(name);
        return read(path.clone())?.ok_or_else(|| none(vec![path]));
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    if name.is_empty() || name.as_bytes()[0] == b'.' || !name.as_bytes().iter().all(plain) {
        return Err(none(Vec::new()));
    }
    let mut file = OsString::from(name);
    file.push(".toml");
    let of_user = sources.home.join(".config/udocker/profiles").join(&file);
    if let Some(found) = read(of_user.clone())? {
        return Ok(found);
    }
    let of_site = sources.site_dir.join("profiles").join(&file);
    let found = read_profile(&sources.site_dir, Path::new(&file), &[sources.site_owner])?;
    found.ok_or_else(|| none(vec![of_user, of_site]))
}
