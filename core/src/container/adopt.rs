//! Containers that are made of files from elsewhere, and what an export needs to know of one.

use std::fs;
use std::io;

use super::{Container, ContainerId};
use crate::digest::Digest;
use crate::platform::Platform;
use crate::store::{ChangedEntry, Record, Store, StoreError, Stores, io_error, read_limited, write_atomically};

impl Container {
    /// Entries of a layered one's base whose mode or owner was another in the image; `None` if that is not known.
    pub fn base_originals(&self, stores: &Stores) -> Option<Vec<ChangedEntry>> {
        let mark = read_limited(&self.directory.join("layered"), 4096).ok()??;
        let manifest: Digest = std::str::from_utf8(&mark).ok()?.lines().nth(1)?.parse().ok()?;
        let platforms = [Some(Platform::native()), self.platform()];
        let mut paths = stores
            .iter()
            .flat_map(|store| platforms.iter().flatten().map(|platform| store.record_path(&manifest, platform)));
        paths.find_map(|path| Some(Record::parse(&fs::read(path).ok()?).ok()?.changed))
    }
}

impl Store {
    /// Writes which image a container is said to come from; udocker's own words need not be an image's name.
    ///
    /// # Errors
    /// The file system's.
    pub fn label_container(&self, id: &ContainerId, image: &str) -> Result<(), StoreError> {
        write_atomically(&self.containers().join(&id.0).join("imagerepo.name"), image.as_bytes())
    }

    /// Removes the record and, by one rename out of reach, the tree of an image that got neither tag nor container; a tree
    /// that a container is based on stays.
    ///
    /// # Errors
    /// The file system's.
    pub fn forget_image(&self, record: &Record) -> Result<(), StoreError> {
        let path = self.record_path(&record.manifest, &record.platform);
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        gone(fs::remove_file(&path)).map_err(io_error("remove", &path))?;
        if self.list_containers()?.iter().any(|container| container.base() == Some(&record.tree)) {
            return Ok(());
        }
        let tree = self.tree(&record.tree);
        let holder = tree.parent().expect("a tree's path has a parent");
        let trash = self.temporary("trash")?;
        gone(fs::rename(holder, trash.path().join("tree"))).map_err(io_error("remove", holder))
    }
}
