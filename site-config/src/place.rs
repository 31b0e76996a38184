//! Where a value stands: who set it, as users are told, and what is wrong with it.

use std::path::{Path, PathBuf};

use toml::Spanned;
use udocker_core::reference::RegistryHost;

use crate::{ConfigError, Origin, Position, Sources};

/// Takes what cannot be used.
pub(crate) type Keep<'a> = &'a mut dyn FnMut(Result<(), ConfigError>);

/// Where a value stands.
pub(crate) struct Place<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl Place<'_> {
    fn position<T>(&self, value: &Spanned<T>) -> Position {
        Position::of(self.path, self.text, &value.span())
    }
    pub(crate) fn origin<T>(&self, value: &Spanned<T>) -> Origin {
        Origin::File(self.position(value))
    }
    pub(crate) fn wrong<T>(&self, value: &Spanned<T>, key: &'static str, expected: &'static str) -> ConfigError {
        ConfigError::Value { at: self.position(value), key, expected }
    }
    /// [`origin`](Self::origin) as it is told to users.
    pub(crate) fn told<T>(&self, value: &Spanned<T>) -> String {
        self.position(value).to_string()
    }
    /// One of `range`.
    pub(crate) fn number(
        &self,
        value: &Spanned<u32>,
        key: &'static str,
        range: std::ops::RangeInclusive<u32>,
        expected: &'static str,
    ) -> Result<u32, ConfigError> {
        let number = *value.get_ref();
        if range.contains(&number) { Ok(number) } else { Err(self.wrong(value, key, expected)) }
    }
    pub(crate) fn host(&self, value: &Spanned<String>, key: &'static str) -> Result<RegistryHost, ConfigError> {
        value.get_ref().parse().map_err(|_| self.wrong(value, key, "a registry as host[:port]"))
    }
    /// The text in which `{uid}` and `{user}` are replaced.
    pub(crate) fn filled(
        &self,
        value: &Spanned<String>,
        key: &'static str,
        sources: &Sources,
    ) -> Result<String, ConfigError> {
        let text = value.get_ref().replace("{uid}", &sources.uid.to_string());
        // A login name comes from the environment: it must stay one component.
        let user_fits =
            !sources.user.is_empty() && !sources.user.contains(['/', ':']) && !sources.user.starts_with('.');
        if text.contains("{user}") && !user_fits {
            return Err(self.wrong(value, key, "a path without {user}, as the login name is unknown"));
        }
        Ok(text.replace("{user}", &sources.user))
    }
    /// An absolute path without `..`, in which `{uid}` and `{user}` are replaced.
    pub(crate) fn template(
        &self,
        value: &Spanned<String>,
        key: &'static str,
        sources: &Sources,
    ) -> Result<PathBuf, ConfigError> {
        const EXPECTED: &str = "an absolute path without `..`; {uid} and {user} are replaced";
        let text = self.filled(value, key, sources)?;
        let path = PathBuf::from(&text);
        let parent = path.components().any(|part| part == std::path::Component::ParentDir);
        if path.is_absolute() && !parent && !text.contains(['{', '}', '\0']) {
            Ok(path)
        } else {
            Err(self.wrong(value, key, EXPECTED))
        }
    }
}
