//! New containers: of an image, and copies of other containers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::copy::{copy_layer, copy_root, copy_tree};
use super::{Container, ContainerId, ContainerName};
use crate::engine::native::{owner_in_the_way, probe_layer};
use crate::reference::ImageReference;
use crate::store::{LockKind, Patience, Record, Store, StoreError, Stores, Temporary, io_error, remove_tree};

/// What a new container is made of.
pub struct CreateOptions<'a> {
    /// Its image as typed.
    pub image: &'a ImageReference,
    /// The image's record.
    pub record: &'a Record,
    /// The image's tree.
    pub tree: &'a Path,
    /// The image's configuration.
    pub config: &'a [u8],
    /// A name.
    pub name: Option<&'a ContainerName>,
}

/// A new container.
#[derive(Debug)]
pub struct Created {
    /// Its ID.
    pub id: ContainerId,
    /// Why it is a full copy; `None` if it is layered.
    pub full_because: Option<String>,
}

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
    fn make(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.directory.join(name);
        fs::create_dir(&path).map_err(io_error("make", &path))?;
        Ok(path)
    }
}

impl Store {
    /// Begins a container; nothing is seen of it before [`Self::publish_container`].
    pub fn begin_container(&self) -> Result<NewContainer, StoreError> {
        let folder = self.temporary_for_container("create")?;
        let id = ContainerId::generate();
        let directory = folder.path().join(&id.0);
        fs::create_dir(&directory).map_err(io_error("make", &directory))?;
        Ok(NewContainer { _folder: folder, directory, id })
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
        if let Some(name) = name
            && let Err(error) = self.link_name(&new.id, name)
        {
            // Of two that want a name one loses, and leaves nothing.
            fs::rename(&place, &new.directory).map_err(io_error("take back", &place))?;
            return Err(error);
        }
        Ok(new.id)
    }

    /// Makes a container: layered where a real overlay with its own upper works on this file system, else a full copy.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::NoBase`] if the tree went away meanwhile; I/O. Nothing is left then.
    pub fn create_container(&self, options: &CreateOptions<'_>) -> Result<Created, StoreError> {
        if let Some(name) = options.name {
            self.check_name_is_free(name)?;
        }
        let new = self.begin_container()?;
        new.write("container.json", options.config)?;
        new.write("imagerepo.name", options.image.to_string().as_bytes())?;
        // Until the container is in its place nobody may remove the tree: neither what it lies over, nor half of what is
        // being copied.
        let _lock = self.lock(LockKind::Publish, &Patience::long(&|| {}))?;
        if !options.tree.is_dir() {
            return Err(StoreError::NoBase { id: new.id.0.clone(), image: options.image.to_string() });
        }
        let full_because = self.make_layer(&new, options.tree)?;
        if full_because.is_some() {
            copy_tree(options.tree, &new.directory.join("ROOT"))?;
        } else {
            let tree = &options.record.tree;
            let text = format!("{} {}\n{}\n", tree.format.as_str(), tree.hex(), options.record.manifest);
            new.write("layered", text.as_bytes())?;
        }
        Ok(Created { id: self.publish_container(new, options.name)?, full_because })
    }

    /// Gives `new` an upper and a work directory; tells why they do not serve over `tree`, and removes them then.
    fn make_layer(&self, new: &NewContainer, tree: &Path) -> Result<Option<String>, StoreError> {
        if let Some(whose) = owner_in_the_way(tree).map_err(io_error("look at", tree))? {
            return Ok(Some(format!("no layer over the image can be written: its files are {whose}")));
        }
        let (upper, work) = (new.make("upper")?, new.make("work")?);
        let refused = probe_layer(tree, &upper, &work).err().map(|error| error.to_string());
        // The probe leaves its traces in both.
        for path in [&upper, &work] {
            remove_tree(path).map_err(io_error("remove", path))?;
        }
        if refused.is_none() {
            new.make("upper")?;
            new.make("work")?;
        }
        Ok(refused)
    }

    /// Makes a copy of `source`, with its settings but neither its names nor its protection.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`]; [`StoreError::Gone`] if it was removed meanwhile; I/O. Nothing is left then.
    pub fn clone_container(
        &self,
        source: &Container,
        stores: &Stores,
        name: Option<&ContainerName>,
    ) -> Result<Created, StoreError> {
        if let Some(name) = name {
            self.check_name_is_free(name)?;
        }
        source.check_base()?;
        let new = self.begin_container()?;
        // The base of the source stays at least until the copy is over it as well.
        let _lock = self.lock(LockKind::Publish, &Patience::long(&|| {}))?;
        let copied = self.copy_container(&new, source, stores);
        // A removal takes it out of sight first: what is still here was copied whole.
        source.still_there()?;
        let full_because = copied?;
        Ok(Created { id: self.publish_container(new, name)?, full_because })
    }

    /// Tells why the copy of a layered one is full.
    fn copy_container(
        &self,
        new: &NewContainer,
        source: &Container,
        stores: &Stores,
    ) -> Result<Option<String>, StoreError> {
        for entry in fs::read_dir(&source.directory).map_err(io_error("list", &source.directory))? {
            let entry = entry.map_err(io_error("list", &source.directory))?;
            let file = entry.file_name();
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && !matches!(file.to_str(), Some("PROTECT" | "layered")) {
                let target = new.directory.join(&file);
                fs::copy(entry.path(), &target).map_err(io_error("copy", &entry.path()))?;
            }
        }
        for directory in [".mountpoints", ".bind_orig_files"] {
            let path = source.directory.join(directory);
            if path.is_dir() {
                copy_tree(&path, &new.directory.join(directory))?;
            }
        }
        if source.is_layered() {
            return self.clone_layered(new, source, stores);
        }
        copy_root(&source.directory.join("ROOT"), &new.directory.join("ROOT"))?;
        Ok(None)
    }

    fn clone_layered(
        &self,
        new: &NewContainer,
        source: &Container,
        stores: &Stores,
    ) -> Result<Option<String>, StoreError> {
        let root = self.container_view(source, stores)?;
        let upper = root.above.expect("a layered container has an upper");
        let refused = self.make_layer(new, &root.tree)?;
        if refused.is_some() {
            let target = new.directory.join("ROOT");
            copy_tree(&root.tree, &target)?;
            super::full::apply_copy(&upper, &target).map_err(io_error("copy the layer of", &source.directory))?;
        } else {
            copy_layer(&upper, &new.directory.join("upper"))?;
            let mark = source.directory.join("layered");
            fs::copy(&mark, new.directory.join("layered")).map_err(io_error("copy", &mark))?;
        }
        Ok(refused)
    }
}

impl From<super::CopyError> for StoreError {
    fn from(error: super::CopyError) -> Self {
        let super::CopyError::Io { path, source } = error;
        Self::Io { action: "copy", path, source }
    }
}

/// Whether `error` says that the name exists.
pub(super) fn exists(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AlreadyExists
}
