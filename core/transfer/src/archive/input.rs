//! Where an archive comes from: a file, or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use udocker_core::digest::Digest;

use super::ArchiveError;
use super::error::file_error;
use crate::fetch::copy_and_digest;

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

/// Copies what comes from the archive `name` into the new file `path`; tells which of the two failed.
pub(super) fn receive(reader: impl Read, path: &Path, name: &str) -> Result<(Digest, u64), ArchiveError> {
    let file = File::create_new(path).map_err(file_error("write", path))?;
    let mut reader = Watched { reader, failed: false };
    copy_and_digest(&mut reader, file).map_err(|source| match reader.failed {
        true => ArchiveError::Archive { name: name.to_owned(), source },
        false => file_error("write", path)(source),
    })
}

struct Watched<R> {
    reader: R,
    failed: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).inspect_err(|_| self.failed = true)
    }
}
