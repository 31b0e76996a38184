//! An image of a store as its configuration and its layers, whichever program wrote it.
//!
//! ```text
//! repos/NAME/TAG/   manifest                      OCI, Docker schema 2: blobs by digest; Docker schema 1: fsLayers
//!                   ancestry, ID.layer, ID.json   version 1 (udocker's load and import); container.json if there is one
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use udocker_core::digest::Digest;
use udocker_core::image_config::MAX_CONFIG_BYTES;
use udocker_core::manifest::{Document, MAX_MANIFEST_BYTES};
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::store::{Store, Stores};

use super::ArchiveError;
use super::error::file_error;

/// See the module's head.
#[derive(Debug)]
pub(super) struct StoredImage {
    pub config: Value,
    pub config_bytes: Vec<u8>,
    /// Lowest first.
    pub layers: Vec<StoredLayer>,
}

/// A layer's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StoredLayer {
    pub path: PathBuf,
    /// What its bytes must have; version 1 does not tell.
    pub digest: Option<Digest>,
}

struct Reader<'a> {
    store: &'a Store,
    directory: PathBuf,
    image: &'a ImageReference,
}

impl StoredImage {
    /// The image that `reference` names, in the order of stores.
    pub fn find(stores: &Stores, reference: &ImageReference) -> Result<Self, ArchiveError> {
        for store in stores.iter() {
            if let Some(directory) = tag_directory(store, reference)? {
                return Reader { store, directory, image: reference }.read();
            }
        }
        Err(ArchiveError::NoImage(reference.clone()))
    }
}

/// The directory of a tag, or of any tag of an image that is named by its digest or its index's.
fn tag_directory(store: &Store, reference: &ImageReference) -> Result<Option<PathBuf>, ArchiveError> {
    if store.has_tag(reference.typed_name(), &reference.selector()) {
        return Ok(Some(store.tag_directory(reference.typed_name(), &reference.selector())));
    }
    let Some(digest) = reference.digest() else { return Ok(None) };
    let manifest = store.read_record(digest, &Platform::native())?.map_or_else(|| digest.clone(), |r| r.manifest);
    let is_it = |path: &Path| fs::read(path.join("manifest")).is_ok_and(|bytes| Digest::sha256_of(&bytes) == manifest);
    Ok(store.tags()?.into_iter().map(|tag| tag.directory).find(|directory| is_it(directory)))
}

impl Reader<'_> {
    fn read(&self) -> Result<StoredImage, ArchiveError> {
        if self.directory.join("manifest").is_file() { self.by_manifest() } else { self.by_ancestry() }
    }

    fn by_manifest(&self) -> Result<StoredImage, ArchiveError> {
        let bytes = self.file("manifest", MAX_MANIFEST_BYTES)?;
        let manifest = match Document::parse(None, &bytes)? {
            Document::Image(manifest) => manifest,
            Document::Schema1(image) => {
                let layers = image.layers.iter().map(|layer| self.blob(layer)).collect::<Result<_, _>>()?;
                return Ok(StoredImage {
                    config: self.json("history", &image.config)?,
                    config_bytes: image.config,
                    layers,
                });
            }
            Document::Index(_) => return Err(self.damaged("its manifest is an index".into())),
        };
        let layers = manifest.layers.iter().map(|layer| self.blob(&layer.digest)).collect::<Result<_, _>>()?;
        let config_path = self.blob(&manifest.config.digest)?.path;
        let config_bytes = self.limited(&config_path, MAX_CONFIG_BYTES)?;
        if Digest::sha256_of(&config_bytes) != manifest.config.digest {
            return Err(self.damaged(format!("{} is corrupt", config_path.display())));
        }
        Ok(StoredImage { config: self.json("configuration", &config_bytes)?, config_bytes, layers })
    }

    fn by_ancestry(&self) -> Result<StoredImage, ArchiveError> {
        let bytes = self.file("ancestry", MAX_MANIFEST_BYTES)?;
        let value: Value = self.json("ancestry", &bytes)?;
        let ids: Option<Vec<&str>> = value.as_array().and_then(|ids| ids.iter().map(Value::as_str).collect());
        let ids = ids.filter(|ids| ids.iter().all(|id| !id.is_empty() && !id.contains('/')));
        let ids = ids.filter(|ids| !ids.is_empty()).ok_or_else(|| self.damaged("its ancestry has no IDs".into()))?;
        let layer = |id: &&str| {
            let path = self.directory.join(format!("{id}.layer"));
            if !path.is_file() {
                return Err(self.absent(format!("layer {id}")));
            }
            Ok(StoredLayer { path, digest: None })
        };
        let layers = ids.iter().rev().map(layer).collect::<Result<_, _>>()?;
        let named = ["container.json".to_owned(), format!("{}.json", ids[0])];
        let name = named.iter().find(|name| self.directory.join(name).is_file());
        let name = name.ok_or_else(|| self.absent("configuration".into()))?;
        let config_bytes = self.file(name, MAX_CONFIG_BYTES)?;
        Ok(StoredImage { config: self.json(name, &config_bytes)?, config_bytes, layers })
    }

    fn blob(&self, digest: &Digest) -> Result<StoredLayer, ArchiveError> {
        let path = self.store.blob(digest);
        if !path.is_file() {
            return Err(self.absent(format!("blob {digest}")));
        }
        Ok(StoredLayer { path, digest: Some(digest.clone()) })
    }

    fn file(&self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        self.limited(&self.directory.join(name), limit)
    }

    fn limited(&self, path: &Path, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        if path.metadata().is_ok_and(|status| status.len() > limit) {
            return Err(self.damaged(format!("{} has more than {limit} bytes", path.display())));
        }
        fs::read(path).map_err(file_error("read", path))
    }

    fn json(&self, name: &str, bytes: &[u8]) -> Result<Value, ArchiveError> {
        serde_json::from_slice(bytes).map_err(|error| self.damaged(format!("its {name} is no JSON: {error}")))
    }

    fn absent(&self, what: String) -> ArchiveError {
        ArchiveError::NoBlob { image: self.image.clone(), what }
    }

    fn damaged(&self, what: String) -> ArchiveError {
        ArchiveError::Stored { image: self.image.clone(), what }
    }
}
