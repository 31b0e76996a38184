//! One value that a file or a variable gives to a key, and what the key's type makes of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use udocker_core::run::ExecMode;
use udocker_core::settings::Executable;

use super::value::Value;
use crate::{ConfigError, Origin, Position, Sources};

/// Where the value stands.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    File(Position),
    Variable(&'static str),
}

impl Place {
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::File(position) => Origin::File(position.clone()),
            Self::Variable(name) => Origin::Variable(name),
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub key: &'static str,
    pub value: Value,
    pub place: Place,
    pub sources: &'a Sources,
}

impl Given<'_> {
    pub(super) fn wrong(&self, expected: &'static str) -> ConfigError {
        match &self.place {
            Place::File(at) => ConfigError::Value { at: at.clone(), key: self.key, expected },
            Place::Variable(name) => ConfigError::variable(name, self.bytes(), expected),
        }
    }
    fn bytes(&self) -> &OsStr {
        match &self.value {
            Value::Text(text) => text,
            Value::List(_) | Value::Table(_) => OsStr::new(""),
        }
    }
    /// A text; `None` and an empty one are none.
    pub(super) fn text(&self) -> Result<Option<&str>, ConfigError> {
        let text = self.value.text().ok_or_else(|| self.wrong("a text"))?;
        Ok(Some(text).filter(|text| !text.is_empty() && *text != "None"))
    }
    /// An absolute path; `None` and an empty one are none. `~` is the user's home; a variable may be relative to the
    /// working directory, as udocker's.
    pub(super) fn path(&self) -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = self.relative_path()? else { return Ok(None) };
        match (&self.place, path.is_absolute()) {
            (_, true) => Ok(Some(path)),
            (Place::Variable(_), false) => Ok(Some(self.sources.cwd.join(path).components().collect())),
            (Place::File(_), false) => Err(self.wrong("an absolute path, or one that begins with `~/`")),
        }
    }
    /// The same, not completed if it is relative.
    pub(super) fn relative_path(&self) -> Result<Option<PathBuf>, ConfigError> {
        let Value::Text(text) = &self.value else { return Err(self.wrong("a path")) };
        if text.is_empty() || text == "None" {
            return Ok(None);
        }
        let path = Path::new(text);
        Ok(Some(match path.strip_prefix("~") {
            Ok(rest) => self.sources.home.join(rest),
            Err(_) => path.to_path_buf(),
        }))
    }
    /// A switch in any of the usual words; `None` and an empty value are none.
    pub(super) fn switch(&self) -> Result<Option<bool>, ConfigError> {
        let text = self.value.text().unwrap_or("?").to_lowercase();
        match text.as_str() {
            "true" | "yes" | "on" | "1" => Ok(Some(true)),
            "false" | "no" | "off" | "0" => Ok(Some(false)),
            "none" | "" => Ok(None),
            _ => Err(self.wrong("True or False")),
        }
    }
    pub(super) fn number(&self) -> Result<i64, ConfigError> {
        let number = self.value.text().and_then(|text| text.trim().parse().ok());
        number.ok_or_else(|| self.wrong("a number"))
    }
    pub(super) fn texts(&self) -> Result<Vec<String>, ConfigError> {
        self.value.texts().ok_or_else(|| self.wrong("a list, as (\"a\", \"b\") or a, b"))
    }
    pub(super) fn paths(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let paths: Vec<PathBuf> = self.texts()?.into_iter().map(PathBuf::from).collect();
        let absolute = paths.iter().all(|path| path.is_absolute());
        if absolute { Ok(paths) } else { Err(self.wrong("a list of absolute paths, as (\"/dev\", \"/proc\")")) }
    }
    /// An execution mode; `None`, `auto` and an empty value are none.
    pub(super) fn mode(&self) -> Result<Option<ExecMode>, ConfigError> {
        let text = self.text()?.filter(|text| *text != "auto");
        text.map(|text| text.parse().map_err(|_| self.wrong(MODES))).transpose()
    }
    /// udocker's words for an executable.
    pub(super) fn executable(&self) -> Result<Executable, ConfigError> {
        if self.value.text() == Some("UDOCKER") {
            return Ok(Executable::Store);
        }
        Ok(self.relative_path()?.map_or(Executable::Host, Executable::Path))
    }
}

pub(super) const MODES: &str = "an execution mode: N1, P1, P2, F1, F2, F3, F4, R1, R2, R3 or S1";
