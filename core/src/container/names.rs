//! Names: relative links beside the containers, any number per container, each taken once.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::create::exists;
use super::{Container, ContainerId, ContainerName};
use crate::store::{Store, StoreError, io_error};

impl Store {
    /// All names of `container`, sorted: looking it up finds the one it was looked up by.
    pub fn names_of(&self, container: &Container) -> Result<Vec<ContainerName>, StoreError> {
        let parent = self.containers();
        let entries = fs::read_dir(&parent).map_err(io_error("list", &parent))?.flatten();
        let ours =
            |path: &Path| fs::read_link(path).is_ok_and(|t| t.file_name().is_some_and(|n| *n == *container.id.0));
        let links = entries.filter(|entry| ours(&entry.path()));
        let mut names: Vec<ContainerName> =
            links.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        names.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(names)
    }

    fn name_link(&self, name: &ContainerName) -> PathBuf {
        self.containers().join(&name.0)
    }

    /// Refuses a name that a container has. A link to nothing, of a crash, is no container.
    pub fn check_name_is_free(&self, name: &ContainerName) -> Result<(), StoreError> {
        if self.name_link(name).exists() { Err(StoreError::NameTaken) } else { Ok(()) }
    }

    /// Gives a container one more name.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`]; I/O.
    pub fn name_container(&self, container: &Container, name: &ContainerName) -> Result<(), StoreError> {
        self.link_name(&container.id, name)
    }

    pub(super) fn link_name(&self, id: &ContainerId, name: &ContainerName) -> Result<(), StoreError> {
        let link = self.name_link(name);
        let make = || symlink(&id.0, &link);
        let made = match make() {
            Err(error) if exists(&error) && !link.exists() => fs::remove_file(&link).and_then(|()| make()),
            other => other,
        };
        match made {
            Err(error) if exists(&error) => Err(StoreError::NameTaken),
            other => other.map_err(io_error("link", &link)),
        }
    }

    /// Gives the container that is named `old` the name `new` instead of it.
    ///
    /// # Errors
    /// [`StoreError::NoName`] if nothing is named `old`; [`StoreError::NameTaken`]; I/O.
    pub fn rename_container(&self, old: &ContainerName, new: &ContainerName) -> Result<(), StoreError> {
        let target = fs::read_link(self.name_link(old)).ok();
        let id = target.as_ref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
        let id = id.filter(|id| ContainerId::is_id(id)).ok_or(StoreError::NoName)?;
        self.link_name(&ContainerId(id.to_owned()), new)?;
        self.remove_container_name(old)
    }

    /// Takes `name` away from whatever container has it.
    ///
    /// # Errors
    /// [`StoreError::NoName`] if none has; I/O.
    pub fn remove_container_name(&self, name: &ContainerName) -> Result<(), StoreError> {
        let link = self.name_link(name);
        if !link.is_symlink() {
            return Err(StoreError::NoName);
        }
        match fs::remove_file(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::NoName),
            other => other.map_err(io_error("remove", &link)),
        }
    }
}
