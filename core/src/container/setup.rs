//! `setup`: the mode of a container, the driver of NVIDIA in it, and what older runs left in its files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Container, leftovers, nvidia};
use crate::engine::ModeNotBuilt;
use crate::engine::native::as_mapped_root;
use crate::error::{ErrorKind, Explain};
use crate::run::{ExecMode, Range};
use crate::store::{RunDirectory, Store, StoreError, io_error};

/// udocker's file: two characters.
pub(super) const EXECMODE_FILE: &str = "execmode";
/// Ours, for N1, which udocker rejects.
pub(super) const MODE_FILE: &str = "mode";
/// udocker's marker, an empty file.
pub(super) const NVIDIA_FILE: &str = "nvidia";

/// A container could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The mode is known and not built.
    #[error("cannot set the execution mode")]
    NotBuilt(#[source] ModeNotBuilt),
    /// No driver is installed on this host.
    #[error("cannot set up NVIDIA for container {id}: this host has no {library} in {searched}")]
    NoDriver {
        /// The container.
        id: String,
        /// What was looked for.
        library: &'static str,
        /// Where.
        searched: String,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for SetupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotBuilt(error) => error.kind(),
            Self::NoDriver { .. } => ErrorKind::NotFound,
            Self::Store(error) => error.kind(),
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotBuilt(_) => vec!["`--execmode=N1` runs it in namespaces, P1 and P2 trace it".into()],
            Self::NoDriver { .. } => vec!["run this on a node that has a GPU and its driver".into()],
            Self::Store(error) => error.hints(),
        }
    }
}

/// Whether a mode of this family changes the files of ROOT, so that another has to undo that first.
pub(super) fn changes_the_root(mode: ExecMode) -> bool {
    use ExecMode::{F1, F2, F3, F4, R1, R2, R3, S1};
    matches!(mode, F1 | F2 | F3 | F4 | R1 | R2 | R3 | S1)
}

impl Store {
    /// Runs the container in `mode` from now on. What another mode changed in its files is undone.
    ///
    /// # Errors
    /// [`SetupError::NotBuilt`]; [`StoreError::ProtectedContainer`]; [`StoreError::InUse`] while something runs in it; I/O.
    pub fn set_mode(&self, container: &Container, mode: ExecMode, run_dirs: &[PathBuf]) -> Result<(), SetupError> {
        if container.is_protected() {
            return Err(StoreError::ProtectedContainer.into());
        }
        ModeNotBuilt::check(mode).map_err(SetupError::NotBuilt)?;
        let _users = self.alone(container, run_dirs)?;
        let directory = &container.directory;
        if container.mode().is_some_and(changes_the_root) {
            leftovers::restore(directory).map_err(io_error("restore the files of", directory))?;
            // For udocker the container is now in its default mode.
            write(directory, EXECMODE_FILE, b"P1")?;
            let root = directory.join("ROOT");
            write(directory, "root.path", root.as_os_str().as_encoded_bytes())?;
        }
        if mode == ExecMode::N1 {
            return Ok(write(directory, MODE_FILE, b"N1")?);
        }
        write(directory, EXECMODE_FILE, mode.to_string().as_bytes())?;
        let ours = directory.join(MODE_FILE);
        match fs::remove_file(&ours) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &ours)(error).into()),
            _ => Ok(()),
        }
    }

    /// Shows the host's NVIDIA driver in the container from now on; its files are bound at each run, never copied.
    ///
    /// # Errors
    /// [`SetupError::NoDriver`]; I/O.
    pub fn set_nvidia(&self, container: &Container, host: &Path) -> Result<(), SetupError> {
        if nvidia::driver_files(host).is_empty() {
            let searched = nvidia::LIBRARY_DIRECTORIES.join(", ");
            return Err(SetupError::NoDriver { id: container.id.0.clone(), library: nvidia::DRIVER_LIBRARY, searched });
        }
        Ok(write(&container.directory, NVIDIA_FILE, b"")?)
    }

    /// Removes the mount points and the links to host files that older runs made in the container.
    ///
    /// # Errors
    /// [`StoreError::InUse`]; I/O.
    pub fn purge_container(&self, container: &Container, run_dirs: &[PathBuf]) -> Result<(), SetupError> {
        let _users = self.alone(container, run_dirs)?;
        let directory = &container.directory;
        let purge = || {
            leftovers::restore_bound_files(directory)?;
            leftovers::remove_mount_points(directory)
        };
        Ok(purge().map_err(io_error("purge", directory))?)
    }

    /// Makes the container's files the caller's, readable and writable: files `| 0600`, directories `| 0700`.
    pub fn fix_permissions(
        &self,
        container: &Container,
        subordinate: Option<(Range, Range)>,
    ) -> Result<(), SetupError> {
        let root = container.directory.join(if container.is_layered() { "upper" } else { "ROOT" });
        if let Some(ranges) = subordinate {
            as_mapped_root(ranges, || leftovers::take_ownership(&root)).map_err(io_error("take", &root))?;
        }
        Ok(leftovers::open_permissions(&root).map_err(io_error("set the modes of", &root))?)
    }

    /// The list of the container's users, held, if there is nobody but this process.
    pub(super) fn alone(
        &self,
        container: &Container,
        run_dirs: &[PathBuf],
    ) -> Result<Option<crate::store::Users>, StoreError> {
        let Some(run) = RunDirectory::open(run_dirs) else { return Ok(None) };
        let users = run.users(&container.id.0)?;
        match users.other() {
            Some(pid) => Err(StoreError::InUse { id: container.id.0.clone(), pid }),
            None => Ok(Some(users)),
        }
    }
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let path = directory.join(name);
    fs::write(&path, bytes).map_err(io_error("write", &path))
}
