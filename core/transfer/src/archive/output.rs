//! Where an archive goes: a file that appears whole under its name, or a pipe that takes it as it comes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::ArchiveError;
use super::error::file_error;

const BUFFER_BYTES: usize = 256 << 10;

/// What happens to a file that is at the output's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the output is refused.
    Refuse,
    /// The output replaces it.
    Replace,
}

/// An archive that is being written. Dropped before [`Output::finish`], it leaves no file.
#[derive(Debug)]
pub struct Output {
    writer: BufWriter<File>,
    name: String,
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    temporary: PathBuf,
    path: PathBuf,
    existing: Existing,
}

impl Drop for Place {
    fn drop(&mut self) {
        // After a rename there is none.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Output {
    /// What a word of the command line means: `-` and nothing are standard output.
    ///
    /// # Errors
    /// [`ArchiveError::Terminal`], [`ArchiveError::OutputExists`], or the file system's.
    pub fn of(word: Option<&Path>, existing: Existing) -> Result<Self, ArchiveError> {
        match word {
            // By its other name standard output may be a file, and that is not to be replaced.
            Some(path) if path != Path::new("-") && path != Path::new("/dev/stdout") => Self::file(path, existing),
            _ => Self::stdout(),
        }
    }

    fn stdout() -> Result<Self, ArchiveError> {
        if io::stdout().is_terminal() {
            return Err(ArchiveError::Terminal);
        }
        let failed = file_error("open", Path::new("standard output"));
        // Not through `io::stdout()`, which looks for ends of lines.
        let file = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(Self {
            writer: BufWriter::with_capacity(BUFFER_BYTES, file.into()),
            name: "standard output".into(),
            place: None,
        })
    }

    fn file(path: &Path, existing: Existing) -> Result<Self, ArchiveError> {
        let name = path.display().to_string();
        match fs::metadata(path) {
            Ok(status) if status.file_type().is_fifo() || status.file_type().is_char_device() => {
                let file = File::options().write(true).open(path).map_err(file_error("open", path))?;
                return Ok(Self { writer: BufWriter::with_capacity(BUFFER_BYTES, file), name, place: None });
            }
            Ok(status) if existing == Existing::Refuse || status.is_dir() => {
                return Err(ArchiveError::OutputExists(path.to_owned()));
            }
            _ => {}
        }
        // What a link leads to is replaced, not the link.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut hidden = OsString::from(".");
        hidden.push(path.file_name().ok_or_else(|| ArchiveError::OutputExists(path.to_owned()))?);
        hidden.push(format!(".part-{}", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = File::create_new(&temporary).map_err(file_error("write", path))?;
        let place = Some(Place { temporary, path: path.to_owned(), existing });
        Ok(Self { writer: BufWriter::with_capacity(BUFFER_BYTES, file), name, place })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Attaches its name to an error of writing into it.
    pub(super) fn failed(&self) -> impl Fn(io::Error) -> ArchiveError + use<> {
        let path = PathBuf::from(&self.name);
        move |source| ArchiveError::File { action: "write", path: path.clone(), source }
    }

    /// Puts the file at its place.
    ///
    /// # Errors
    /// [`ArchiveError::OutputExists`] if somebody made one meanwhile; the file system's.
    pub fn finish(mut self) -> Result<(), ArchiveError> {
        let failed = self.failed();
        self.writer.flush().map_err(&failed)?;
        let Some(Place { temporary, path, existing }) = &self.place else { return Ok(()) };
        // Some file systems tell only now that they had no room.
        self.writer.get_ref().sync_all().map_err(&failed)?;
        let renamed = match existing {
            Existing::Replace => fs::rename(temporary, path),
            Existing::Refuse => match rustix::fs::renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS) if path.symlink_metadata().is_err() => fs::rename(temporary, path),
                Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {
                    return Err(ArchiveError::OutputExists(path.clone()));
                }
                other => other.map_err(io::Error::from),
            },
        };
        renamed.map_err(failed)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
