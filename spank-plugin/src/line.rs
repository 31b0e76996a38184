//! The words of the plugin's line in plugstack.conf.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

use udocker_core::env_vars::SLURM_UDOCKER_CONFIG;
use udocker_core::error::{ErrorKind, Explain};

/// Where the launcher is if no word names another.
const LAUNCHER: &str = "/usr/bin/udocker-launch";

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `launcher=`: the program `udocker` lies beside it.
    pub launcher: PathBuf,
    /// `config=`: the site's site.toml; `None`: where our programs look for it.
    pub config: Option<PathBuf>,
}

/// A word that is none of them, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("`{0}` in plugstack.conf says nothing")]
    Unknown(String),
    /// A user would choose what it names.
    #[error("`{0}` in plugstack.conf is no path from the root on")]
    Relative(String),
}

impl Explain for LineError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::System
    }
    fn hints(&self) -> Vec<String> {
        vec!["`launcher=PATH` and `config=PATH` are the words".into()]
    }
}

impl Line {
    /// What `words` say.
    ///
    /// # Errors
    /// A word that says nothing.
    pub fn of(words: &[&OsStr]) -> Result<Self, LineError> {
        let mut line = Self { launcher: LAUNCHER.into(), config: None };
        for word in words {
            let path =
                |key: &[u8]| word.as_bytes().strip_prefix(key).map(|value| PathBuf::from(OsStr::from_bytes(value)));
            if let Some(path) = path(b"launcher=") {
                line.launcher = path;
            } else if let Some(path) = path(b"config=") {
                line.config = Some(path);
            } else {
                return Err(LineError::Unknown(word.display().to_string()));
            }
        }
        if line.launcher.is_relative() {
            return Err(LineError::Relative(format!("launcher={}", line.launcher.display())));
        }
        Ok(line)
    }

    /// Lets a program of ours read the site's file, and no other that a user's variable names.
    pub fn configure(&self, command: &mut Command) {
        match &self.config {
            Some(path) => command.env(SLURM_UDOCKER_CONFIG, path),
            None => command.env_remove(SLURM_UDOCKER_CONFIG),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_launcher_and_configuration() {
        let of = |words: &[&str]| {
            let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
            Line::of(&words).map_err(|error| error.to_string())
        };
        assert_eq!(of(&[]), Ok(Line { launcher: LAUNCHER.into(), config: None }));
        let both = Line { launcher: "/l".into(), config: Some("/c/site.toml".into()) };
        assert_eq!(of(&["config=/c/site.toml", "launcher=/x", "launcher=/l"]), Ok(both));
        assert_eq!(of(&["conf=/x"]), Err("`conf=/x` in plugstack.conf says nothing".into()));
        assert_eq!(of(&["launcher=l"]), Err("`launcher=l` in plugstack.conf is no path from the root on".into()));
    }
}
