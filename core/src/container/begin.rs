//! Making a container in two steps: its files in `tmp/`, then its place and name.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Container, ContainerId, ContainerName};
use crate::store::{Store, StoreError, Temporary, io_error};

/// A container that is being made in `tmp/`.
pub struct NewContainer {
    _folder: Temporary,
    directory: PathBuf,
    id: ContainerId,
}

impl NewContainer {
    /// Where its files are put.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// Writes one of its files.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.directory.join(name);
        fs::write(&path, bytes).map_err(io_error("write", &path))
    }
}

impl Container {
    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Store {
    /// Begins a container; nothing is seen of it before [`Self::publish_container`].
    pub fn begin_container(&self) -> Result<NewContainer, StoreError> {
        let folder = self.temporary("create")?;
        let id = ContainerId::generate();
        let directory = folder.path().join(&id.0);
        fs::create_dir(&directory).map_err(io_error("make", &directory))?;
        Ok(NewContainer { _folder: folder, directory, id })
    }

    /// Refuses a name that a container has.
    pub fn check_name_is_free(&self, name: &ContainerName) -> Result<(), StoreError> {
        if self.containers().join(&name.0).exists() { Err(StoreError::NameTaken) } else { Ok(()) }
    }

    /// Puts a finished container in its place, and gives it its name.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`]; there is no container then.
    pub fn publish_container(
        &self,
        new: NewContainer,
        name: Option<&ContainerName>,
    ) -> Result<ContainerId, StoreError> {
        let place = self.containers().join(&new.id.0);
        fs::rename(&new.directory, &place).map_err(io_error("publish", &place))?;
        let link = name.map(|name| self.containers().join(&name.0));
        if let Some(link) = link
            && let Err(error) = symlink(&new.id.0, &link)
        {
            // Of two that want a name one loses, and leaves nothing.
            fs::rename(&place, &new.directory).map_err(io_error("take back", &place))?;
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists => StoreError::NameTaken,
                _ => io_error("link", &link)(error),
            });
        }
        Ok(new.id)
    }
}
