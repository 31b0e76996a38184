//! Where an archive comes from: a file, or standard input.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::ArchiveError;
use super::error::file_error;

/// The source of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file; for `load` also the directory of an OCI layout.
    Path(PathBuf),
}

impl Input {
    /// What a word of the command line means: `-` and nothing are standard input.
    pub fn of(word: Option<&Path>) -> Self {
        match word {
            Some(path) if path.as_os_str() != "-" => Self::Path(path.to_owned()),
            _ => Self::Stdin,
        }
    }

    /// Its name in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::Path(path) => path.display().to_string(),
        }
    }

    /// A reader from its beginning; standard input can be read once only.
    ///
    /// # Errors
    /// [`ArchiveError::File`] if it cannot be opened.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, ArchiveError> {
        match self {
            Self::Stdin => Ok(Box::new(std::io::stdin())),
            Self::Path(path) => Ok(Box::new(File::open(path).map_err(file_error("open", path))?)),
        }
    }

    /// The file, if it can be read more than once.
    pub(super) fn regular(&self) -> Option<&Path> {
        match self {
            Self::Path(path) if path.is_file() => Some(path),
            _ => None,
        }
    }
}
