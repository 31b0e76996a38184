//! Containers that are made of files from elsewhere, and what an export needs to know of one.

use std::fs;

use super::{Container, ContainerId};
use crate::digest::Digest;
use crate::platform::Platform;
use crate::store::{ChangedEntry, Record, Store, StoreError, Stores, read_limited, write_atomically};

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
}
