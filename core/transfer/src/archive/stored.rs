//! An image of a store as `save` needs it: its configuration as JSON, and layers whose files are there.

use std::path::PathBuf;

use serde_json::Value;
use udocker_core::digest::Digest;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::store::{Store, StoreError, Stores};

use super::ArchiveError;

/// See the module's head.
#[derive(Debug)]
pub(super) struct SavedImage {
    pub config: Value,
    pub config_bytes: Vec<u8>,
    /// Lowest first.
    pub layers: Vec<SavedLayer>,
}

/// A layer's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SavedLayer {
    pub path: PathBuf,
    /// What its bytes must have; version 1 does not tell.
    pub digest: Option<Digest>,
}

impl SavedImage {
    /// The image that `reference` names, in the order of stores.
    pub fn find(stores: &Stores, reference: &ImageReference) -> Result<Self, ArchiveError> {
        for store in stores.iter() {
            if let Some(directory) = tag_directory(store, reference)? {
                return Self::read(store, directory, reference);
            }
        }
        Err(ArchiveError::NoImage(reference.clone()))
    }

    fn read(store: &Store, directory: PathBuf, reference: &ImageReference) -> Result<Self, ArchiveError> {
        let damaged = |what: String| ArchiveError::Stored { image: reference.clone(), what };
        let image = store.read_image(&directory)?.ok_or_else(|| ArchiveError::NoImage(reference.clone()))?;
        let config = serde_json::from_slice(&image.config);
        let config = config.map_err(|error| damaged(format!("its configuration is no JSON: {error}")))?;
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in image.layers {
            if !layer.path.is_file() {
                let kind = if layer.digest.is_some() { "blob" } else { "layer" };
                let what = format!("{kind} {}", layer.name);
                return Err(ArchiveError::NoBlob { image: reference.clone(), what });
            }
            layers.push(SavedLayer { path: layer.path, digest: layer.digest });
        }
        Ok(Self { config, config_bytes: image.config, layers })
    }
}

/// The directory of a tag, or of any tag of an image that is named by its digest or its index's.
fn tag_directory(store: &Store, reference: &ImageReference) -> Result<Option<PathBuf>, StoreError> {
    if let Some(tag) = store.find_tag(reference) {
        return Ok(Some(tag.directory));
    }
    let Some(digest) = reference.digest() else { return Ok(None) };
    let manifest = store.read_record(digest, &Platform::native())?.map_or_else(|| digest.clone(), |r| r.manifest);
    let tags = store.tags()?;
    let mut directories = tags.into_iter().map(|tag| tag.directory);
    Ok(directories.find(|directory| store.image_key(directory).is_ok_and(|key| key.as_ref() == Some(&manifest))))
}
