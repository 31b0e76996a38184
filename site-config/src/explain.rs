//! A key of the site's, its value in force, and who set it.

use udocker_core::error::{ErrorKind, Explain};

use crate::keys::{State, state};
use crate::report::redact;
use crate::{Effect, Loaded, Row};

/// A key that cannot be explained.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// There is none of this name.
    #[error("cannot explain `{key}`: site.toml has no such key")]
    Unknown {
        /// As typed.
        key: String,
        /// The nearest known key, if one is near.
        nearest: Option<String>,
    },
    /// A documented key whose part is not built.
    #[error("cannot explain `{0}`: the key is not supported by this version")]
    Unsupported(String),
}

impl Explain for KeyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } => ErrorKind::Usage,
            Self::Unsupported(_) => ErrorKind::Unsupported,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => vec![format!("did you mean `{nearest}`?")],
            Self::Unknown { nearest: None, .. } => vec!["`udocker site init` prints all keys".into()],
            Self::Unsupported(_) => Vec::new(),
        }
    }
}

/// A setting that is in force, and what other jobs have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The setting.
    pub row: Row,
    /// Where it differs: for which jobs and by whose word, and the value there.
    pub elsewhere: Vec<(String, String)>,
}

impl Loaded {
    /// The settings that `key` names, `table.key` or a table.
    ///
    /// # Errors
    /// [`KeyError`] if there is no such key, or its part is not built.
    pub fn explain(&self, key: &str) -> Result<Vec<Explained>, KeyError> {
        let registries = &self.settings.registries;
        let more =
            [("registries.default", registries.default.to_string()), ("registries.index", registries.index.clone())];
        let more = more.map(|(key, value)| Row {
            key: key.into(),
            value: redact(&value),
            origin: self.origin(key).clone(),
            effect: Effect::Acts,
        });
        let is_meant =
            |row: &Row| row.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let rows: Vec<_> = self.site_rows().into_iter().chain(more).filter(is_meant).collect();
        match state(key) {
            _ if !rows.is_empty() => Ok(rows.into_iter().map(|row| self.explained(row)).collect()),
            State::Built => Ok(Vec::new()),
            State::Later => Err(KeyError::Unsupported(key.into())),
            State::Unknown(nearest) => Err(KeyError::Unknown { key: key.into(), nearest }),
        }
    }

    fn explained(&self, row: Row) -> Explained {
        let others = self.elsewhere.iter().filter(|other| other.keys.contains(&row.key)).filter_map(|other| {
            let there = other.loaded.site_rows().into_iter().find(|there| there.key == row.key)?;
            (there.value != row.value).then(|| (other.told.clone(), there.value))
        });
        Explained { elsewhere: others.collect(), row }
    }
}
