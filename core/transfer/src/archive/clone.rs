//! `import --clone`: a whole container out of the tar that `export --clone` wrote, ours or udocker's.
//!
//! It is extracted as a layer is, so nothing of it gets outside of the new container's directory and no set-id bit stays.
//! Of the names at its top those that mean something to udocker or to us are kept.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use udocker_core::container::{ContainerId, ContainerName};
use udocker_core::digest::Digest;
use udocker_core::settings::Limits;
use udocker_core::store::{Store, TreeFormat, remove_tree};
use udocker_core::text::escape;

use super::error::file_error;
use super::input::receive;
use super::{ArchiveError, Input};
use crate::extract::{ExtractError, FlattenOptions, LayerSource, flatten};
use crate::stage::StageError;

/// Files of a container: udocker's, and `mode`, which is ours.
const FILES: [&str; 13] = [
    "container.json",
    "imagerepo.name",
    "execmode",
    "mode",
    "root.path",
    "PROTECT",
    "nvidia",
    "config.json",
    "ld.so.path",
    "ld.so.orig",
    "ld.lib.dirs",
    "patch.time",
    "patch.path",
];
const DIRECTORIES: [&str; 3] = ["ROOT", ".mountpoints", ".bind_orig_files"];

/// A container that came out of an archive.
#[derive(Debug)]
pub struct Cloned {
    /// Its new ID.
    pub id: ContainerId,
    /// Names at the top of the archive that were left out, escaped.
    pub ignored: Vec<String>,
}

/// Makes a container of the clone `input` in `store`.
///
/// # Errors
/// [`udocker_core::store::StoreError::NameTaken`] before anything is read; [`ArchiveError::NotAClone`]; what extraction
/// gives. Nothing is left then.
pub fn import_clone(
    store: &Store,
    input: &Input,
    name: Option<&ContainerName>,
    limits: &Limits,
) -> Result<Cloned, ArchiveError> {
    if let Some(name) = name {
        store.check_name_is_free(name)?;
    }
    let shown = input.name();
    let folder;
    // Extraction may have to read it twice.
    let path = match input.regular() {
        Some(path) => path.to_owned(),
        None => {
            folder = store.temporary("import")?;
            let path = folder.path().join("clone");
            receive(input.open()?, &path, &shown)?;
            path
        }
    };
    let new = store.begin_container()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(new.directory(), flags, Mode::empty()).map_err(file_error("open", new.directory()))?;
    let options = FlattenOptions {
        format: TreeFormat::Private1,
        max_bytes: limits.image_bytes,
        max_entries: limits.image_entries,
    };
    let clone = Clone { path, digest: Digest::sha256_of(b"") };
    flatten(&[&clone], root.as_fd(), &options).map_err(|error| explained(error, &shown))?;
    let ignored = tidy(new.directory(), &shown)?;
    if !new.directory().join("imagerepo.name").exists() {
        new.write("imagerepo.name", super::import::UNKNOWN_IMAGE.as_bytes())?;
    }
    make_writable(root).map_err(file_error("open", new.directory()))?;
    Ok(Cloned { id: store.publish_container(new, name)?, ignored })
}

struct Clone {
    path: PathBuf,
    digest: Digest,
}

impl LayerSource for Clone {
    fn digest(&self) -> &Digest {
        &self.digest
    }
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(&self.path)?))
    }
}

/// An error of extraction about the archive, which is no layer with a digest.
fn explained(error: ExtractError, name: &str) -> ArchiveError {
    let name = name.to_owned();
    match error {
        ExtractError::Layer { source, .. } => ArchiveError::Archive { name, source },
        ExtractError::BadEntry { entry, what, .. } => ArchiveError::Entry { name, entry, what: what.to_owned() },
        ExtractError::Write { entry, source, .. } => file_error("extract", Path::new(&entry))(source),
        other => StageError::from(other).into(),
    }
}

/// Removes what belongs to no container and returns its names; a file that is a link or a directory does not belong.
fn tidy(directory: &Path, name: &str) -> Result<Vec<String>, ArchiveError> {
    let mut ignored = Vec::new();
    for entry in fs::read_dir(directory).map_err(file_error("list", directory))? {
        let entry = entry.map_err(file_error("list", directory))?;
        let (file, path) = (entry.file_name(), entry.path());
        let kind = entry.file_type().map_err(file_error("list", &path))?;
        let known: &[&str] = if kind.is_dir() { &DIRECTORIES } else { &FILES };
        if kind.is_symlink() || !file.to_str().is_some_and(|file| known.contains(&file)) {
            remove_tree(&path).map_err(file_error("remove", &path))?;
            ignored.push(escape(file.as_encoded_bytes()));
        }
    }
    ignored.sort();
    for missing in ["ROOT", "container.json"] {
        if !directory.join(missing).exists() {
            return Err(ArchiveError::NotAClone { name: name.to_owned(), missing });
        }
    }
    Ok(ignored)
}

/// Lets the owner write every file, as in each full container.
fn make_writable(directory: OwnedFd) -> Result<(), Errno> {
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        let status = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                make_writable(rustix::fs::openat(&directory, name, flags, Mode::empty())?)?;
            }
            FileType::RegularFile if status.st_mode & 0o600 != 0o600 => {
                let mode = Mode::from_raw_mode(status.st_mode & 0o7777 | 0o600);
                rustix::fs::chmodat(&directory, name, mode, AtFlags::empty())?;
            }
            _ => {}
        }
    }
    Ok(())
}
